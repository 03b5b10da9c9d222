import * as contract from 'macula:plugin/config@0.1.0';
import { MaculaError } from './errors.js';
import { isWellFormed } from './text.js';

export function setting(key) {
    return isWellFormed(key) ? (contract.get(key) ?? undefined) : undefined;
}

/** One setting, of the type of `fallback`: a wrong setting is never silently the fallback. */
export function settingOr(key, fallback) {
    const text = setting(key);
    if (text === undefined) return fallback;
    const wrong = (wanted) => new MaculaError('invalid', `setting ${key} = ${JSON.stringify(text)}: not a ${wanted}`);
    switch (typeof fallback) {
        case 'number': {
            const number = text.trim() === '' ? NaN : Number(text);
            if (Number.isNaN(number)) throw wrong('number');
            return number;
        }
        case 'boolean':
            if (text !== 'true' && text !== 'false') throw wrong('boolean');
            return text === 'true';
        default:
            return text;
    }
}

export function settingJSON(key) {
    const text = setting(key);
    if (text === undefined) return undefined;
    try {
        return JSON.parse(text);
    } catch (error) {
        throw new MaculaError('invalid', `setting ${key} = ${text}: ${error.message}`);
    }
}

export function settings() {
    return Object.fromEntries(contract.all());
}
