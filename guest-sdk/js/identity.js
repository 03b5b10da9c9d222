import * as contract from 'macula:plugin/identity@0.1.0';
import { isWellFormed } from './text.js';

export function pluginName() { return contract.pluginName(); }
export function pluginVersion() { return contract.pluginVersion(); }
export function component() { return contract.component(); }
export function principal() { return contract.principal(); }
export function node() { return contract.node(); }
export function realm() { return contract.realm(); }
export function instance() { return contract.instance(); }
export function can(command, target) { return isWellFormed(command + target) && contract.can(command, target); }
