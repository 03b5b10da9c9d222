//! Delegations on disk: containers in `tokens/`, and files that somebody names.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use macula_auth::ucan::{Cid, Delegation, Token, TokenError, container, limits::CONTAINER_BYTES_MAX};

use macula_files::{NotRead, ReadError};

use super::{
    Home, HomeError,
    files::{is_absent, make_directory, write_private},
};

const SUFFIX: &str = "ucan";

/// Files in `tokens/` that are read; more are a mistake.
const FILES_MAX: usize = 4096;

/// One file of tokens.
#[derive(Debug)]
pub struct StoredTokens {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds, or why it cannot be used.
    pub tokens: Result<Vec<Token>, TokenFileError>,
}

/// Why a file gives no tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] NotRead),
    /// It is no container.
    #[error(transparent)]
    Container(#[from] container::ContainerError),
    /// It holds something that is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl TokenFileError {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Io(_) => "Unreadable",
            Self::Container(error) => error.name(),
            Self::Token(error) => error.name(),
        }
    }
}

/// Reads tokens as they are passed around: a container, a single token, or a single token in base64.
///
/// # Errors
/// See [`TokenFileError`]; every token is verified.
pub fn read_tokens(bytes: &[u8]) -> Result<Vec<Token>, TokenFileError> {
    const TOKEN_HEAD: u8 = 0x82;
    if bytes.first() == Some(&TOKEN_HEAD) {
        return Ok(vec![Token::decode(bytes)?]);
    }
    // Some editors begin every text with a byte-order mark.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let text = bytes.trim_ascii();
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    // What a token begins with, in base64; containers begin with other letters.
    if unpadded.first() == Some(&b'g') {
        let token = BASE64_NOPAD.decode(unpadded).or_else(|_| BASE64URL_NOPAD.decode(unpadded));
        if let Ok(token) = token {
            return Ok(vec![Token::decode(&token)?]);
        }
    }
    let tokens = container::decode(bytes)?;
    Ok(tokens.iter().map(|token| Token::decode(token)).collect::<Result<_, _>>()?)
}

impl StoredTokens {
    /// Reads one file.
    pub fn read(path: &Path) -> Self {
        Self { path: path.to_owned(), tokens: read_file(path) }
    }

    /// The delegations in it.
    pub fn into_delegations(self) -> Vec<Arc<Delegation>> {
        let delegation =
            |token| if let Token::Delegation(delegation) = token { Some(Arc::new(delegation)) } else { None };
        self.tokens.into_iter().flatten().filter_map(delegation).collect()
    }
}

fn read_file(path: &Path) -> Result<Vec<Token>, TokenFileError> {
    const FILE_BYTES_MAX: u64 = 2 * CONTAINER_BYTES_MAX as u64;
    match macula_files::read(path, FILE_BYTES_MAX) {
        Ok(bytes) => read_tokens(&bytes),
        Err(ReadError { why: NotRead::TooLarge { .. }, .. }) => Err(container::ContainerError::TooLarge.into()),
        Err(ReadError { why, .. }) => Err(why.into()),
    }
}

impl Home {
    /// Keeps a chain under its last delegation's id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_tokens(&self, cid: &Cid, packed: &[u8]) -> Result<PathBuf, HomeError> {
        let directory = self.path.join("tokens");
        make_directory(&directory)?;
        let path = directory.join(format!("{cid}.{SUFFIX}"));
        write_private(&path, packed)?;
        Ok(path)
    }

    /// All files of tokens here, by name; damaged ones say so.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn tokens(&self) -> Result<Vec<StoredTokens>, HomeError> {
        Ok(self.token_paths()?.iter().map(|path| StoredTokens::read(path)).collect())
    }

    /// Where the files of tokens are, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn token_paths(&self) -> Result<Vec<PathBuf>, HomeError> {
        let directory = self.path.join("tokens");
        let entries = match fs::read_dir(&directory) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other.map_err(|error| HomeError::Io { action: "read", path: directory, error })?,
        };
        let is_ours = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == SUFFIX);
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_ours).collect();
        paths.sort_unstable();
        paths.truncate(FILES_MAX);
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use ed25519_dalek::SigningKey;
    use macula_auth::ucan::{DelegationFields, Policy, container::Encoding};

    use super::*;

    fn delegation() -> Delegation {
        let key = SigningKey::from_bytes(&[1; 32]);
        let fields = DelegationFields {
            audience: SigningKey::from_bytes(&[2; 32]).verifying_key().into(),
            subject: Some(key.verifying_key().into()),
            command: "/mesh".parse().unwrap(),
            policy: Policy::any(),
            expires: None,
            not_before: None,
            nonce: vec![1; 12],
            meta: Default::default(),
        };
        fields.sign(&key).unwrap()
    }

    #[test]
    fn tokens_come_in_several_coats() {
        let token = delegation();
        let container = container::encode([token.bytes()], Encoding::Base64Url);
        let base64 = BASE64.encode(token.bytes());
        for bytes in [token.bytes(), &container, base64.as_bytes(), format!("{base64}\n").as_bytes()] {
            let read = read_tokens(bytes).unwrap();
            assert!(matches!(&read[..], [Token::Delegation(read)] if read.cid() == token.cid()));
        }
        for (bytes, name) in [(&b"hello"[..], "Malformed"), (b"", "Malformed"), (&token.bytes()[..40], "Truncated")] {
            assert_eq!(read_tokens(bytes).unwrap_err().name(), name);
        }
    }

    #[test]
    fn what_was_kept_is_listed_and_what_is_damaged_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        assert!(home.tokens().unwrap().is_empty());
        let token = delegation();
        let packed = container::encode([token.bytes()], Encoding::Base64Url);
        home.keep_tokens(token.cid(), &packed).unwrap();
        fs::write(directory.path().join("tokens/broken.ucan"), "x").unwrap();
        fs::write(directory.path().join("tokens/notes.txt"), "x").unwrap();
        let listed = home.tokens().unwrap();
        assert_eq!(listed.iter().map(|stored| stored.tokens.is_ok()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(listed.into_iter().flat_map(StoredTokens::into_delegations).count(), 1);
    }

    /// Goal: a byte-order mark, which some editors write, changes nothing; what is no token is told in words.
    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let token = BASE64.encode(delegation().bytes());
        let marked = format!("\u{feff}{token}\n");
        assert_eq!(read_tokens(marked.as_bytes()).unwrap(), read_tokens(token.as_bytes()).unwrap());
        let other = read_tokens("\u{feff}ïx".as_bytes()).unwrap_err().to_string();
        assert!(other.contains("it begins with") && !other.contains("Some("), "{other}");
        assert!(read_tokens(b"").unwrap_err().to_string().contains("it is empty"));
    }
}
