//! Passwords and tokens: values that never show in a log or a message.

use std::fmt;

/// A password or token. Its `Debug` form is a placeholder and it has no `Display`, so it cannot reach a log by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the place that sends or stores it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a registry accepts as proof of who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user name and its password.
    Basic {
        /// The user's name.
        username: String,
        /// The user's password or access token.
        password: Secret,
    },
    /// A refresh token that an authorization server exchanges for access tokens.
    IdentityToken(Secret),
    /// A bearer token that is sent as it stands.
    RegistryToken(Secret),
}

impl Credentials {
    /// Whether there is anything to show to a server.
    pub fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_forms_never_hold_the_secret() {
        let secret = Secret::new("hunter2");
        let basic = Credentials::Basic { username: "joe".into(), password: secret.clone() };
        let all = [
            format!("{secret:?} {basic:?}"),
            format!("{:?}", Credentials::IdentityToken(secret.clone())),
            format!("{:#?}", Credentials::RegistryToken(secret)),
        ];
        for text in all {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("[redacted]"), "{text}");
        }
    }
}
