// Gives back what it gets: the least a plugin can do, to measure what a message and a call cost.

import { publish } from 'macula';

export default {
    onMessage(message) {
        publish('bench.out', message.payload);
    },

    onCall(request) {
        return request.payload;
    },
};
