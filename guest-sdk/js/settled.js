// Handlers are done when they return: nothing in a component runs between them, so a promise would never come true.

export function settled(handler, value) {
    if (value !== null && typeof value === 'object' && typeof value.then === 'function') {
        // It must not be reported as forgotten when it rejects.
        value.then(undefined, () => {});
        throw new Error(`${handler} gave a promise; write it without async and await: what asks the host waits by itself`);
    }
    return value;
}
