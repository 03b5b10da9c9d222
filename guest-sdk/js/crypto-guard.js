// Where the engine has `crypto` by itself, it draws in handlers only. The builder puts this in front of a plugin for such an
// engine that uses `crypto`.

import { refuseWhileMade } from './making.js';

for (const name of ['getRandomValues', 'randomUUID']) {
    const draw = crypto[name].bind(crypto);
    const guarded = (...values) => {
        refuseWhileMade();
        return draw(...values);
    };
    Object.defineProperty(crypto, name, { value: guarded, configurable: true, writable: true });
}
