import { HandlerError } from 'macula';

/** Lines of an invoice at most: an answer is due in the caller's time. */
export const LINES_MAX = 1000;

/** The net amount of all lines, `{ price, quantity }`. It is added up in whole cents, where sums are exact. */
export function netOf(lines) {
    if (!Array.isArray(lines) || lines.length === 0 || lines.length > LINES_MAX) {
        throw new HandlerError('bad-arguments', `lines: a list of 1 to ${LINES_MAX} is needed`);
    }
    const cents = lines.map((line, index) => {
        const { price, quantity } = line ?? {};
        if (typeof price !== 'number' || !Number.isInteger(quantity) || quantity < 1) {
            throw new HandlerError('bad-arguments', `line ${index + 1}: { "price": 19.9, "quantity": 3 } is needed`);
        }
        return Math.round(price * 100) * quantity;
    });
    const sum = cents.reduce((sum, each) => sum + each, 0);
    if (!Number.isSafeInteger(sum)) throw new HandlerError('bad-arguments', 'lines: more than can be added up exactly');
    return sum / 100;
}
