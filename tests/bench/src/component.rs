//! Many components that do the same.

/// A component that does the same as this one under another content id: a custom section is added.
pub(crate) fn variant(bytes: &[u8], number: u32) -> Vec<u8> {
    let name = b"variant";
    let mut section = vec![name.len() as u8];
    section.extend(name);
    section.extend(number.to_le_bytes());
    let mut bytes = bytes.to_vec();
    bytes.extend([0, section.len() as u8]);
    bytes.extend(section);
    bytes
}
