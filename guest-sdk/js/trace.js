import * as contract from 'macula:plugin/trace@0.1.0';

export function currentTrace() {
    return contract.current() ?? undefined;
}
