// The clock that handlers see: virtual time, as in scenarios.

/** Runs something in which `Date` begins at this time, in milliseconds since 1970-01-01 UTC. Nothing else runs meanwhile. */
export function at(nowMs, run) {
    const Real = globalThis.Date;
    globalThis.Date = class Date extends Real {
        constructor(...given) {
            if (given.length === 0) super(nowMs);
            else super(...given);
        }
        static now() { return nowMs; }
    };
    try {
        return run();
    } finally {
        globalThis.Date = Real;
    }
}
