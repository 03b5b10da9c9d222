// What Node is told of modules while a plugin is tested: `macula` is this SDK, and the contract's interfaces are those of the
// fake host that the plugin runs on. Runs in a thread of its own.
//
// Each instance has modules of its own, as each component has memory of its own: their addresses carry its number, which goes
// on from a module to those that it imports.

const NUMBER = 'macula-instance';

/** Where the SDK is, and the names that each interface of the contract has. */
let sdk;
let names;

export function initialize(data) { ({ sdk, names } = data); }

export async function resolve(specifier, context, next) {
    const number = context.parentURL === undefined ? null : new URL(context.parentURL).searchParams.get(NUMBER);
    if (number === null) return next(specifier, context);
    if (specifier.startsWith('macula:plugin/')) return { url: numbered(specifier, number), format: 'module', shortCircuit: true };
    const found = specifier === 'macula'
        ? { url: new URL('index.js', sdk).href, format: 'module', shortCircuit: true }
        : await next(specifier, context);
    if (found.url.startsWith('node:')) {
        throw new Error(`import of ${specifier}: plugins run without Node: there are no files, no network and no processes`);
    }
    return { ...found, url: numbered(found.url, number) };
}

export async function load(address, context, next) {
    if (!address.startsWith('macula:plugin/')) return next(address, context);
    const url = new URL(address);
    const name = url.pathname.replace(/^plugin\//, '').replace(/@.*$/, '');
    const number = Number(url.searchParams.get(NUMBER));
    if (!(name in names)) throw new Error(`the contract has no interface ${name}`);
    const source = `const contract = globalThis[Symbol.for('macula.testing')](${number}, ${JSON.stringify(name)});
        export default contract;
        export const { ${names[name].join(', ')} } = contract;`;
    return { format: 'module', source, shortCircuit: true };
}

function numbered(address, number) {
    const url = new URL(address);
    url.searchParams.set(NUMBER, number);
    return url.href;
}
