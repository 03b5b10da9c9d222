import { reject } from 'macula';

/**
 * Rooms remembered at most: whoever may publish readings must not fill the memory. Readings of further rooms are rejected.
 */
export const ROOMS_MAX = 1000;

/** What is known of each room, and when it changes between well and too warm. */
export class Rooms {
    #rooms = new Map();

    /**
     * What a reading would change: 'raised', 'cleared' or nothing. Changes nothing yet, so that a message can be handled
     * again when its alert was not sent.
     */
    change(name, celsius, { threshold, hysteresis }) {
        const room = this.#rooms.get(name);
        if (room === undefined && this.#rooms.size === ROOMS_MAX) {
            throw reject(`${name} is one room more than ${ROOMS_MAX}`);
        }
        if (!room?.alert && celsius > threshold) return 'raised';
        if (room?.alert && celsius < threshold - hysteresis) return 'cleared';
        return undefined;
    }

    /** Takes a reading in. */
    record(name, celsius, change) {
        let room = this.#rooms.get(name);
        if (room === undefined) {
            room = { min: celsius, max: celsius, last: celsius, count: 0, alert: false };
            this.#rooms.set(name, room);
        }
        room.min = Math.min(room.min, celsius);
        room.max = Math.max(room.max, celsius);
        room.last = celsius;
        room.count += 1;
        if (change !== undefined) room.alert = change === 'raised';
    }

    toJSON() {
        return Object.fromEntries([...this.#rooms].sort(([a], [b]) => (a < b ? -1 : 1)));
    }
}
