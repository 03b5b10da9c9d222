/** A host for one plugin, in the process of its tests. See README.md. */

import type { CallError, Message, Payload, Request } from './index.js';

export { MaculaError, CallError, HandlerError, DecodeError } from './index.js';

export interface FakeHostOptions {
    /** The plugin's folder, with package.json and macula.toml; the current one without it. */
    folder?: string | URL;
    /** The manifest's text, or the path of a .toml file; the folder's macula.toml without it. */
    manifest?: string;
    /** The first module; that of package.json without it. */
    plugin?: string;
    /** Settings, over the manifest's. */
    config?: Record<string, unknown>;
    /** What the plugin's calls are answered with, by procedure: see FakeHost.answer. */
    answers?: Record<string, Answer>;
    /** The least level that somebody would see; `trace` without it. */
    logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error';
    /** The trace that handlers find. */
    trace?: { traceparent: string; tracestate: string };
}

/** A payload; an error that the plugin is to see; or a function that gives the one or throws the other. */
export type Answer = Payload | Error | CallError | ((request: Called) => Payload | void);

/** What became of a message. */
export type Outcome = { outcome: 'ack' } | { outcome: 'retry'; delayMs?: number } | { outcome: 'reject' | 'dead-letter'; reason: string };

interface Read {
    text(): string;
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    json<T = any>(): T;
}

/** A message as the plugin published it. */
export interface Published extends Read {
    topic: string;
    payload: Uint8Array;
    contentType: string;
    delivery: 'ordered' | 'latest' | 'acked';
    retain: boolean;
    metadata: Record<string, string>;
}

/** A call as the plugin made it. */
export interface Called extends Read {
    procedure: string;
    payload: Uint8Array;
    contentType: string;
    idempotencyKey: string;
    caller: string;
    /** What it asked for, and at most what its own caller has left. */
    timeLeftMs: number;
    metadata: Record<string, string>;
}

/** An entry of the plugin's log. */
export interface Logged {
    level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
    target: string;
    message: string;
    fields: Record<string, string>;
}

type Metadata = { metadata?: Record<string, string> | [string, string][] };

/** A host that runs one plugin, with a mesh, a clock and modules of its own. Made by FakeHost.start. */
export class FakeHost {
    private constructor();
    /** Starts a plugin. Rejects with what its start throws, and with what a host would refuse. */
    static start(options?: FakeHostOptions): Promise<FakeHost>;

    /** What the plugin did, and the test has not taken yet; calls without those that were denied. */
    readonly published: Published[];
    readonly called: Called[];
    readonly logged: Logged[];
    /** As `/mesh/publish alerts.kitchen`. */
    readonly denied: string[];
    takePublished(): Published[];
    takeCalled(): Called[];
    takeLogged(): Logged[];
    takeDenied(): string[];

    /** What is open now. */
    readonly subscriptions: string[];
    readonly offers: string[];
    readonly timers: string[];
    /** The virtual time; it begins at 2026-01-01. */
    readonly nowMs: number;

    /** Delivers a message to each subscription that matches; gives the first outcome that is not an ack. */
    deliver(topic: string, payload?: Payload, more?: Partial<Omit<Message, 'metadata'>> & Metadata): Outcome;
    /** Calls a procedure of the plugin. Throws a HandlerError. The caller waits 5 s without `timeLeftMs`. */
    call(procedure: string, payload?: Payload, more?: Partial<Omit<Request, 'metadata'>> & Metadata): Uint8Array;
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    callJSON<T = any>(procedure: string, payload?: Payload, more?: Partial<Omit<Request, 'metadata'>> & Metadata): T;
    /** Lets time pass, and gives the number of ticks. Throws the first error of a tick, when all have ticked. */
    advance(milliseconds: number): number;

    /** Answers the plugin's calls of a procedure from now on. A CallError is one of the way, every other error the handler's own. */
    answer(procedure: string, answer: Answer): void;
    /** Keeps a topic's last value; without a payload, forgets it. */
    retain(topic: string, payload?: Payload): void;
    /** Stores content that the plugin may fetch by right, and gives its id. */
    content(payload: Payload): string;
    isPinned(mcid: string): boolean;
    /** A value of one of the plugin's buckets. */
    stored(bucket: string, key: string): Uint8Array | undefined;

    /** Grants a right, such as '/mesh/publish', and tells the plugin. */
    allow(command: string, pattern: string): void;
    /** Takes a right, ends what is no longer allowed, and tells the plugin. */
    deny(command: string, pattern: string): void;
    /** Changes a setting. Without onConfigChange a new instance begins. When it is refused the old one is back. */
    setConfig(key: string, value: unknown): Promise<void>;
    health(): { tag: 'healthy' } | { tag: 'degraded' | 'unhealthy'; val: string };

    /** Puts a new instance in place of the old one, with its state, as a new version does. */
    replace(): Promise<void>;
    /** Ends the instance as a trap does, and starts the next. */
    crash(): Promise<void>;
    stop(): void;
}
