// Lets `console` write to the plugin's log. The builder puts it in front of a plugin that uses `console`.

import { show, write } from './log.js';

const to = (level) => (...values) => write(level, values.map(show).join(' '));

globalThis.console = {
    ...globalThis.console,
    trace: to('trace'), debug: to('debug'), log: to('info'), info: to('info'), warn: to('warn'), error: to('error'),
};
