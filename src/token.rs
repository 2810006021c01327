//! The bearer token: it cannot be printed, and is wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A JWT, or whatever the user pasted. Equality is allowed; showing it is not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes the text, trimmed. `None` where nothing is left: blank means signed out (contract, section 2).
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for the `Authorization` header and for reading the account out of it. Nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_cannot_be_printed() {
        let token = Token::new(" abc.def.ghi \n").unwrap();
        assert_eq!(token.expose(), "abc.def.ghi");
        assert!(!format!("{token:?}").contains("abc"));
        assert_eq!(Token::new(" \n"), None);
    }
}
