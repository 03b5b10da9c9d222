// What the plugin may do: what its manifest asks for, and what the test has granted and taken since. The last word counts.

import { covers, isPattern, isReserved } from './names.js';

export class Rights {
    #rules = [];

    allow(command, pattern) { this.#add(command, pattern, true); }
    deny(command, pattern) { this.#add(command, pattern, false); }

    /** Whether all of a target, a name or a pattern, is allowed. What is the system's can be subscribed to, and nothing else. */
    covers(command, target) {
        if (isReserved(target) && command !== '/mesh/subscribe') return false;
        return this.#rules.findLast((rule) => rule.command === command && covers(rule.pattern, target))?.allowed ?? false;
    }

    #add(command, pattern, allowed) {
        if (!command.startsWith('/mesh/')) throw new Error(`"${command}" is not a command such as /mesh/publish`);
        if (!isPattern(pattern)) throw new Error(`"${pattern}" is not a pattern`);
        this.#rules.push({ command, pattern, allowed });
    }
}
