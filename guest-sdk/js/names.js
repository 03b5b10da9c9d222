// What names something: topics, procedures, keys, content ids. A component that hands over half a pair of surrogates, which is
// no UTF-8, ends. In names nothing is replaced, as in logs: that would name something else.

import { MaculaError } from './errors.js';
import { isWellFormed } from './text.js';

/** The name, when the host takes it. */
export function named(what, text) {
    if (typeof text === 'string' && !isWellFormed(text)) throw new MaculaError('invalid', `${what} ${JSON.stringify(text)}: not UTF-8`);
    return text;
}
