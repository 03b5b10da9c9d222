// Numbers of 64 bits: one engine gives them as BigInt, the other as numbers. The contract's are below 2^53, where numbers are
// exact; both engines take numbers.

/** Makes numbers of these fields of a record. */
export function asNumbers(record, ...fields) {
    for (const field of fields) record[field] = Number(record[field]);
    return record;
}
