// Everything there is. A component gets only the modules whose names it imports: each brings the interfaces that it uses.
export { MaculaError, CallError, HandlerError, DecodeError } from './errors.js';
export { retry, retryAfter, reject, deadLetter, withCode, unknownProcedure } from './failures.js';
export { encode, decode } from './text.js';
export { publish, publishAcked, retained, subscribe } from './pubsub.js';
export { call, callJSON, advertise } from './rpc.js';
export { put, createContent, openContent, fetchContent, hasContent, pin, unpin } from './content.js';
export { openBucket } from './kv.js';
export { after, every, cancelTimer } from './timers.js';
export { log, logEnabled } from './log.js';
export { setting, settingOr, settingJSON, settings } from './config.js';
export { pluginName, pluginVersion, component, principal, node, realm, instance, can } from './identity.js';
export { currentTrace } from './trace.js';
