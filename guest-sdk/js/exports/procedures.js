import { advertise } from '../rpc.js';

/** Offers the plugin's `procedures`: names, or handlers by name, or `{ handler, …options }` by name. */
export function openProcedures(plugin) {
    const asked = plugin.procedures;
    const entries = Array.isArray(asked) ? asked.map((procedure) => [procedure, undefined]) : Object.entries(asked);
    for (const [procedure, value] of entries) {
        const { handler, ...options } = typeof value === 'function' || value === undefined ? {} : value;
        advertise(procedure, Object.keys(options).length === 0 ? undefined : options);
    }
}
