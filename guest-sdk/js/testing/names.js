// Topics, patterns and content ids, as the mesh reads them.

const SEGMENTS_MAX = 16;
const LITERAL = /^[A-Za-z0-9_-]{1,63}$/;

/** 1 to 16 segments of [A-Za-z0-9_-]{1,63}. */
export function isTopic(text) {
    const segments = text.split('.');
    return segments.length <= SEGMENTS_MAX && segments.every((segment) => LITERAL.test(segment));
}

/** A topic in which * stands for one segment, and a final ** for one or more. */
export function isPattern(text) {
    const segments = text.split('.');
    return segments.length <= SEGMENTS_MAX && segments.every((segment, index) =>
        segment === '*' || (segment === '**' && index === segments.length - 1) || LITERAL.test(segment));
}

/** Names of the system begin with _; no wildcard in front covers them. */
export function isReserved(name) {
    return name.startsWith('_');
}

/** Whether every topic of `asked`, a topic or a pattern, is one of `pattern`. */
export function covers(pattern, asked) {
    if (isReserved(asked) && pattern.startsWith('*')) return false;
    const segments = asked.split('.');
    for (const part of pattern.split('.')) {
        if (segments.length === 0) return false;
        if (part === '**') return true;
        const segment = segments.shift();
        if (part !== segment && (part !== '*' || segment === '**')) return false;
    }
    return segments.length === 0;
}

/** The code of an error, or a name of metadata. */
export function isCode(text) {
    return /^[a-z0-9-]{1,64}$/.test(text);
}

export function isContentId(text) {
    return /^bafkr(4i|ei)[a-z2-7]{52}$/.test(text);
}
