// Publishes an alert when a room gets warmer than the threshold, and when it has cooled down again. Between the two it
// says nothing: a room is well again only below threshold - hysteresis, so that a temperature that wavers around the
// threshold makes one alert, not many.

import { log, publish, reject, settingOr } from 'macula';
import { Rooms } from './rooms.js';

const rooms = new Rooms();
let limits;

export default {
    onStart() {
        limits = { threshold: settingOr('threshold', 30), hysteresis: settingOr('hysteresis', 1) };
    },

    onMessage(message) {
        const celsius = reading(message.json());
        const room = message.segment(1);
        const state = rooms.change(room, celsius, limits);
        if (state !== undefined) {
            publish(`alerts.${room}.temperature`, { room, state, celsius, threshold: limits.threshold });
            log.info(`alert ${state}`, { room, celsius });
        }
        rooms.record(room, celsius, state);
    },

    onCall() {
        return rooms;
    },
};

/** What sensors send: 31.5 or {"celsius": 31.5}. */
function reading(value) {
    const celsius = typeof value === 'object' && value !== null ? value.celsius : value;
    if (typeof celsius !== 'number') throw reject('a reading is 31.5 or {"celsius": 31.5}');
    return celsius;
}
