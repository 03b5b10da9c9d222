// Values from the contract, as this package gives them whichever engine they come from.

/** Numbers of 64 bits as numbers: StarlingMonkey gives BigInt. The contract's are below 2^53, where numbers are exact. */
export function asNumbers(record, ...fields) {
    for (const field of fields) record[field] = Number(record[field]);
    return record;
}

/** Bytes as a Uint8Array that a plugin knows as one: StarlingMonkey makes them in a realm of its own. Copies nothing. */
export function asBytes(bytes) {
    return bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
