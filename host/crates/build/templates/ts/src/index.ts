// Greets whoever says hello: hello.ada is answered by a message to greetings.ada.

import { publish, settingOr, type Plugin } from 'macula';

let count = 0;

export default {
    onMessage(message) {
        const name = message.segment(1);
        // `greeting` is set in macula.toml; 'Hello' is what holds without it.
        publish(`greetings.${name}`, { text: `${settingOr('greeting', 'Hello')}, ${name}!` });
        count += 1;
    },

    onCall() {
        return count;
    },
} satisfies Plugin;
