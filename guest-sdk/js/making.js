// Whether the component is being made: what stands outside of handlers runs then, and is part of it.

/** The clock stands still while the component is made, at a time that no handler sees. */
const MADE = Date.now();

export function isBeingMade() {
    return Date.now() === MADE;
}

/** A secret or an id that is drawn while the component is made would be the same in each instance, for everybody to see. */
export function refuseWhileMade() {
    if (isBeingMade()) {
        throw new Error('crypto draws in handlers only: what stands outside of them runs when the plugin is built, and is the same in each instance');
    }
}
