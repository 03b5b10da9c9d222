// What engines call the function that gives a resource back: the symbol is younger than one of them.
const DISPOSE = Symbol.dispose ?? Symbol.for('dispose');

/** Gives a resource of the host back; nothing is left to give back of one that was used up. */
export function drop(resource) {
    resource?.[DISPOSE]?.();
}
