// The clock that handlers see: virtual time, as in scenarios.

/** Runs something in which `Date` begins at this time, in milliseconds since 1970-01-01 UTC. Nothing else runs meanwhile. */
export function at(nowMs, run) {
    const Real = globalThis.Date;
    globalThis.Date = new Proxy(Real, {
        // As a function it gives text, as always.
        apply() { return new Real(nowMs).toString(); },
        construct(target, given, maker) { return Reflect.construct(target, given.length === 0 ? [nowMs] : given, maker); },
        get(target, name) { return name === 'now' ? () => nowMs : Reflect.get(target, name); },
    });
    try {
        return run();
    } finally {
        globalThis.Date = Real;
    }
}
