//! Authentication: from a server's challenge to the `Authorization` header of each request.
//!
//! Owns challenges, tokens and their life. Must not know where credentials are kept.

mod challenge;
mod token;

pub use challenge::Challenge;

use super::http::{Transport, TransportError};
use super::secret::{Credentials, Secret};
use std::collections::HashMap;
use std::sync::Mutex;
use token::Token;
use ureq::http::HeaderValue;

/// Why there is no authorization.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The authorization server does not take the credentials.
    #[error("{server} refuses the credentials")]
    Refused {
        /// Its address.
        server: String,
    },
    /// The authorization server fails.
    #[error("{server} {reason}")]
    Server {
        /// Its address.
        server: String,
        /// How.
        reason: String,
    },
    /// The challenge leads nowhere.
    #[error("the registry names a malformed authorization server `{0}`")]
    Realm(String),
    /// The server cannot be reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Produces `Authorization` headers for one registry. Tokens are kept per set of scopes; shared by all threads.
#[derive(Debug)]
pub struct Authenticator {
    credentials: Credentials,
    challenge: Mutex<Option<Challenge>>,
    /// Held while a token is fetched, so that parallel layers ask once.
    tokens: Mutex<HashMap<Vec<String>, Token>>,
}

impl Authenticator {
    /// An authenticator that has seen no challenge yet.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, challenge: Mutex::default(), tokens: Mutex::default() }
    }

    /// Whether there are no credentials to show.
    pub fn is_anonymous(&self) -> bool {
        self.credentials.is_anonymous()
    }

    /// Takes note of what the registry asks for.
    pub fn challenged(&self, challenge: Challenge) {
        *lock(&self.challenge) = Some(challenge);
    }

    /// The header for a request that needs `scopes`; `None` while nothing was asked for.
    pub fn authorization(&self, transport: &Transport, scopes: &[String]) -> Result<Option<HeaderValue>, AuthError> {
        if let Credentials::RegistryToken(token) = &self.credentials {
            return Ok(token::bearer(token));
        }
        let challenge = lock(&self.challenge).clone();
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(token::basic(&self.credentials)),
            Some(Challenge::Bearer(bearer)) => {
                let mut tokens = lock(&self.tokens);
                if let Some(known) = tokens.get(scopes).filter(|token| token.is_fresh()) {
                    return Ok(token::bearer(&known.secret));
                }
                let fresh = token::fetch(transport, &bearer, &self.credentials, scopes, false)?;
                let header = token::bearer(&fresh.secret);
                tokens.insert(scopes.to_vec(), fresh);
                Ok(header)
            }
        }
    }

    /// Forgets the token behind `refused`: the registry did not take it (it ended, or was withdrawn). A newer one that
    /// another thread has fetched meanwhile stays.
    pub fn refused(&self, scopes: &[String], refused: Option<&HeaderValue>) {
        let mut tokens = lock(&self.tokens);
        let same = tokens.get(scopes).is_some_and(|known| token::bearer(&known.secret).as_ref() == refused);
        if same {
            tokens.remove(scopes);
        }
    }

    /// Proves that the credentials are good and returns the identity token to keep instead of the password, if the
    /// authorization server gives one.
    pub fn log_in(&self, transport: &Transport) -> Result<Option<Secret>, AuthError> {
        let challenge = lock(&self.challenge).clone();
        let Some(Challenge::Bearer(bearer)) = challenge else { return Ok(None) };
        let token = token::fetch(transport, &bearer, &self.credentials, &[], true)?;
        let refresh = token.refresh.clone();
        lock(&self.tokens).insert(Vec::new(), token);
        Ok(refresh)
    }
}

/// A poisoned lock only means that another thread gave up: the maps are whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
