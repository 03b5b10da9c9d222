/** Write macula mesh handlers in JavaScript and TypeScript. See README.md. */

/** Bytes as they are, text as UTF-8, everything else as JSON. */
export type Payload = Uint8Array | string | object | number | boolean | null;

/** A message as a handler sees it. `(publisher, epoch, seq)` names it uniquely in its realm. */
export interface Message {
    readonly topic: string;
    /** At most 1 MiB. */
    readonly payload: Uint8Array;
    /** Media type; empty when the publisher did not say. */
    readonly contentType: string;
    /** The did:key of who published it; verified by the host. */
    readonly publisher: string;
    readonly epoch: number;
    readonly seq: number;
    /** When it was published, by the publisher's clock, in milliseconds since 1970-01-01 UTC. */
    readonly timestampMs: number;
    /**
     * 1 at first delivery, then one more each time that it is delivered again: after a retry, or a trap of the instance that
     * had it in hand. What a host had taken is lost with the host's process, and not delivered again.
     */
    readonly attempt: number;
    /** A stored last value, not live. */
    readonly retained: boolean;
    /** Which subscription it matched; 0 for the manifest's. */
    readonly subscription: number;
    /** What the publisher added. */
    readonly metadata: [string, string][];
    /** The payload as JSON. Throws a DecodeError, which rejects the message. */
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    json<T = any>(): T;
    /** The payload as text. Throws a DecodeError, which rejects the message. */
    text(): string;
    /** One of the topic's parts, from 0; empty when there is none. */
    segment(index: number): string;
    /** One value of the metadata. */
    meta(name: string): string | undefined;
}

/** A call as its handler sees it. */
export interface Request {
    readonly procedure: string;
    readonly payload: Uint8Array;
    readonly contentType: string;
    /** The did:key of who calls; verified by the host. */
    readonly caller: string;
    /** Time left until the caller gives up. */
    readonly timeLeftMs: number;
    /** The same for every try of what is to happen once; empty when not given. */
    readonly idempotencyKey: string;
    readonly metadata: [string, string][];
    /** The arguments as JSON. Throws a DecodeError, which answers with the code `bad-arguments`. */
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    json<T = any>(): T;
    text(): string;
    meta(name: string): string | undefined;
}

/** A timer that fell due. */
export interface Tick {
    readonly name: string;
    /** In milliseconds since 1970-01-01 UTC. */
    readonly dueMs: number;
    /** Earlier ticks of this timer that were left out because the plugin was busy. */
    readonly missed: number;
}

export type StartReason = 'fresh' | 'restarted' | 'replacing' | 'resumed' | 'other';
export type StopReason = 'replaced' | 'stopped' | 'evicted' | 'host-stopping' | 'other';

/** `undefined` and `'healthy'`: all is well. Another text: why not. */
export type Health = void | boolean | 'healthy' | string | { degraded: string } | { unhealthy: string };

/**
 * What `export default` has. Written out as an object: the component exports what is there. Handlers are not async: what
 * asks the host waits by itself.
 */
export interface Plugin {
    /** Runs once, first. An exception keeps the plugin from starting. */
    onStart?(reason: StartReason): void;
    /** Handles messages of the manifest's subscriptions, and of those without a handler of their own. */
    onMessage?(message: Message): void;
    /** Subscribes at the start: patterns, or handlers by pattern. */
    subscriptions?: string[] | Record<string, ((message: Message) => void) | (SubscribeOptions & { handler?(message: Message): void })>;
    /** Answers calls of the manifest's procedures, and of those without a handler of their own. */
    onCall?(request: Request): Payload | void;
    /** Offers at the start: names, or handlers by name. */
    procedures?: string[] | Record<string, ((request: Request) => Payload | void) | (AdvertiseOptions & { handler(request: Request): Payload | void })>;
    /** Handles ticks that have no handler of their own. */
    onTimer?(tick: Tick): void;
    /** Set at the start, by name. */
    timers?: Record<string, { everyMs: number; handler?(tick: Tick): void }>;
    /** Asked after the start and from time to time. Answer from memory. */
    onHealth?(): Health;
    /** Runs once, last. */
    onStop?(reason: StopReason, graceMs: number): void;
    /** Settings changed. An exception refuses the change. With `onRightsChange` alone, all changes are refused. */
    onConfigChange?(keys: string[]): void;
    /** Rights were granted, withdrawn or have expired. */
    onRightsChange?(): void;
    /** What the next version takes over, or the same one after an eviction: something that JSON can hold, or bytes. A trap loses it. */
    snapshot?(): unknown;
    /** Takes over what an earlier version gave. */
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    restore?(state: any, version: string): void;
}

export type ErrorCode =
    | 'denied' | 'invalid' | 'not-found' | 'timeout' | 'unavailable' | 'too-large' | 'quota-exceeded' | 'conflict' | 'cancelled' | 'other';

/** Why the host or the mesh did not do what was asked. */
export class MaculaError extends Error {
    constructor(code: ErrorCode, text?: string, bytesMax?: number);
    readonly code: ErrorCode;
    readonly text: string;
    readonly bytesMax?: number;
}

/** Why a call gave no answer: its handler did not run, or may have run. */
export class CallError extends Error {
    constructor(outcome: 'not-run' | 'maybe-run', cause: MaculaError);
    readonly outcome: 'not-run' | 'maybe-run';
    readonly code: ErrorCode;
}

/** A handler's own no to a call. */
export class HandlerError extends Error {
    constructor(code: string, message: string, data?: Uint8Array);
    readonly code: string;
    readonly data: Uint8Array;
}

/** A payload or a setting is not of the form that was asked for. */
export class DecodeError extends Error {
    constructor(what: string, cause: Error);
}

/** `throw retry(error)`: deliver the message again after the host's growing delay. */
export function retry(cause: unknown): Error;
/** `throw retryAfter(ms, error)`: deliver it again after so long. */
export function retryAfter(milliseconds: number, cause: unknown): Error;
/** `throw reject(error)`: this plugin will never handle it. */
export function reject(cause: unknown): Error;
/** `throw deadLetter(error)`: keep it for a person. */
export function deadLetter(cause: unknown): Error;
/** `throw withCode(code, error)`: answer the call with this code. */
export function withCode(code: string, cause: unknown): Error;
/** The answer to a call of a procedure that this plugin does not know. */
export function unknownProcedure(procedure: string): HandlerError;

export function encode(text: string): Uint8Array;
export function decode(bytes: Uint8Array): string;

export interface PublishOptions {
    delivery?: 'ordered' | 'latest' | 'acked';
    /** Keep it as the topic's last value. */
    retain?: boolean;
    contentType?: string;
    metadata?: Record<string, string>;
}

export interface Receipt {
    readonly epoch: number;
    readonly seq: number;
    readonly level: 'host' | 'relay-memory' | 'relay-disk';
}

export function publish(topic: string, payload?: Payload, options?: PublishOptions): void;
/** Waits until a relay has taken it. */
export function publishAcked(topic: string, payload?: Payload, options?: PublishOptions): Receipt;
/** The stored last value of a topic. */
export function retained(topic: string): Message | undefined;

export interface SubscribeOptions {
    whenFull?: 'drop-oldest' | 'latest-only' | 'block';
    queueMessages?: number;
    retained?: boolean;
}

export interface Subscription {
    id(): number;
    pattern(): string;
    stats(): { delivered: number; dropped: number; queued: number };
    unsubscribe(): void;
}

/** Takes effect when the current handler returns. Forgetting the handle ends nothing. */
export function subscribe(pattern: string, options?: SubscribeOptions): Subscription;

export interface CallOptions {
    /** 5 s without it. */
    timeoutMs?: number;
    contentType?: string;
    idempotencyKey?: string;
    metadata?: Record<string, string>;
}

/** Calls a procedure and waits for the answer. Throws a HandlerError or a CallError. */
export function call(procedure: string, payload?: Payload, options?: CallOptions): Uint8Array;
/** The same, with the answer as JSON. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export function callJSON<T = any>(procedure: string, payload?: Payload, options?: CallOptions): T;

export interface AdvertiseOptions {
    inFlightMax?: number;
    metadata?: Record<string, string>;
}

export interface Advertisement {
    procedure(): string;
    withdraw(): void;
}

export function advertise(procedure: string, options?: AdvertiseOptions): Advertisement;

/** Stores up to 1 MiB and gives its content id. */
export function put(payload: Payload): string;
export interface ContentWriter {
    write(payload: Payload): void;
    /** The content id; the writer is used up. */
    finish(): string;
    close(): void;
}
export function createContent(): ContentWriter;
export interface Content {
    readonly size: number;
    read(offset?: number, length?: number): Uint8Array;
    close(): void;
}
export function openContent(mcid: string): Content;
export interface Fetch {
    state(): { done: boolean; error?: Error; storedBytes?: number; totalBytes?: number; providers?: number };
    cancel(): void;
}
export function fetchContent(mcid: string): Fetch;
export function hasContent(mcid: string): boolean;
export function pin(mcid: string): void;
export function unpin(mcid: string): void;

export interface Entry {
    readonly value: Uint8Array;
    readonly version: number;
}
export interface Bucket {
    replicated(): boolean;
    get(key: string): Entry | undefined;
    set(key: string, value: Payload, ttlMs?: number): void;
    delete(key: string): void;
    /** Writes only if the key still is as `expected`; gives the new version. */
    swap(key: string, expected: Entry | undefined, value: Payload): number;
    increment(key: string, delta?: number): number;
    keys(prefix?: string, cursor?: string, limit?: number): { keys: string[]; next?: string };
}
export function openBucket(name: string): Bucket;

/** One tick, so many milliseconds from now. */
export function after(name: string, delayMs: number): void;
/** A tick each period, at least 10 ms. */
export function every(name: string, periodMs: number): void;
/** False when there was none. */
export function cancelTimer(name: string): boolean;

type LogFunction = (message: string, fields?: Record<string, unknown>) => void;
export const log: { trace: LogFunction; debug: LogFunction; info: LogFunction; warn: LogFunction; error: LogFunction };
export function logEnabled(level: 'trace' | 'debug' | 'info' | 'warn' | 'error'): boolean;

export function setting(key: string): string | undefined;
/** One setting, of the type of `fallback`. Throws when it is set to something else. */
export function settingOr<T extends string | number | boolean>(key: string, fallback: T): T extends string ? string : T extends number ? number : boolean;
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export function settingJSON<T = any>(key: string): T | undefined;
export function settings(): Record<string, string>;

export function pluginName(): string;
export function pluginVersion(): string;
export function component(): string;
export function principal(): string;
export function node(): string;
export function realm(): string;
export function instance(): { index: number; count: number };
export function can(command: string, target: string): boolean;

/** The trace of what is being handled. */
export function currentTrace(): { traceparent: string; tracestate: string } | undefined;
