/**
 * What engines have beside the language, as far as both of them have it. Types of browsers or of Node, where a project wants
 * those, take its place.
 */

/** Writes to the plugin's log. */
interface Console {
    trace(...values: unknown[]): void;
    debug(...values: unknown[]): void;
    log(...values: unknown[]): void;
    info(...values: unknown[]): void;
    warn(...values: unknown[]): void;
    error(...values: unknown[]): void;
}
declare var console: Console;

/** Random numbers from the host; in handlers only. */
interface Crypto {
    /** Fills an array of integers, of at most 65,536 bytes. */
    getRandomValues<
        T extends
            | Int8Array
            | Uint8Array
            | Uint8ClampedArray
            | Int16Array
            | Uint16Array
            | Int32Array
            | Uint32Array
            | BigInt64Array
            | BigUint64Array,
    >(array: T): T;
    /** A UUID of version 4. */
    randomUUID(): `${string}-${string}-${string}-${string}-${string}`;
}
declare var crypto: Crypto;
