import * as contract from 'macula:plugin/log@0.1.0';
import { wellFormed } from './text.js';

export function write(level, message, fields) {
    if (!contract.enabled(level)) return;
    const pairs = fields === undefined ? [] : Object.entries(fields).map(([name, value]) => [wellFormed(name), wellFormed(show(value))]);
    contract.write(level, '', wellFormed(message), pairs);
}

export function show(value) {
    if (typeof value === 'string') return value;
    if (value instanceof Error) return value.stack ? `${value.message}\n${value.stack}` : value.message;
    try {
        return JSON.stringify(value) ?? String(value);
    } catch {
        return String(value);
    }
}

export function logEnabled(level) {
    return contract.enabled(level);
}

export const log = {
    trace(message, fields) { write('trace', message, fields); },
    debug(message, fields) { write('debug', message, fields); },
    info(message, fields) { write('info', message, fields); },
    warn(message, fields) { write('warn', message, fields); },
    error(message, fields) { write('error', message, fields); },
};
