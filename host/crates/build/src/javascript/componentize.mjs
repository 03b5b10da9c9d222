// Lets componentize-js make a component of the modules and the world beside this file. It is found from here, as any
// package is: in node_modules of this project, or of one around it.
//
// Arguments: where the component goes, the program that takes Wizer's place, and the folder where that keeps what it compiled.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const [output, wizerBin, cache] = process.argv.slice(2);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

try {
    const { component } = await componentize({
        sourcePath: here('start.js'),
        witPath: here('wit'),
        worldName: 'component',
        // A plugin reaches others by the contract alone.
        disableFeatures: ['http', 'fetch-event'],
        wizerBin,
        env: { MACULA_BUILD_JS_CACHE: cache },
    });
    await writeFile(output, component);
} catch (error) {
    const [, reason] = /^Failed to initialize component [^\n]*\n(.*)/s.exec(error.message) ?? [];
    console.error(reason === undefined
        ? error.message
        : `the plugin cannot be evaluated; what stands outside of handlers runs when it is built, without a host: ${reason}`);
    process.exitCode = 1;
}
