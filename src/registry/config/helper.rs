//! Credential helpers: programs named `docker-credential-NAME` that keep passwords elsewhere.

use super::ConfigError;
use crate::registry::secret::{Credentials, Secret};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A helper may unlock a key ring, but it must not hang a pull for ever.
const PATIENCE: Duration = Duration::from_secs(60);
/// No answer is longer.
const ANSWER: u64 = 1 << 20;
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// The helper called `name`.
#[derive(Debug)]
pub(super) struct Helper {
    program: String,
}

impl Helper {
    /// The helper `docker-credential-NAME`; a name with a slash would run something else and is refused.
    pub(super) fn new(name: &str) -> Result<Self, ConfigError> {
        let program = format!("docker-credential-{name}");
        if name.is_empty() || name.contains('/') {
            return Err(ConfigError::Helper { program, reason: "not a helper's name".into() });
        }
        Ok(Self { program })
    }

    /// The credentials kept for `server`.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credentials>, ConfigError> {
        let (success, output) = self.run("get", server)?;
        if !success {
            // The protocol has no code for "none": helpers print this text.
            let text = String::from_utf8_lossy(&output);
            if text.contains("credentials not found") {
                return Ok(None);
            }
            return Err(self.error("get fails"));
        }
        let record: Record =
            serde_json::from_slice(&output).map_err(|_| self.error("get answers something else than JSON"))?;
        let secret = Secret::new(record.secret);
        Ok(Some(match record.username.as_str() {
            TOKEN_USER => Credentials::IdentityToken(secret),
            _ => Credentials::Basic { username: record.username, password: secret },
        }))
    }

    /// Keeps `credentials` for `server`.
    pub(super) fn store(&self, server: &str, credentials: &Credentials) -> Result<(), ConfigError> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.clone(), password),
            Credentials::IdentityToken(token) | Credentials::RegistryToken(token) => (TOKEN_USER.to_owned(), token),
            Credentials::Anonymous => return Ok(()),
        };
        let record = Record { server: server.to_owned(), username, secret: secret.expose().to_owned() };
        let text = serde_json::to_string(&record).map_err(|_| self.error("the credentials have no JSON form"))?;
        if self.run("store", &text)?.0 { Ok(()) } else { Err(self.error("store fails")) }
    }

    /// Forgets what is kept for `server`; false when nothing was.
    pub(super) fn erase(&self, server: &str) -> Result<bool, ConfigError> {
        Ok(self.run("erase", server)?.0)
    }

    fn error(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Helper { program: self.program.clone(), reason: reason.into() }
    }

    /// Runs one action; whether it succeeded, and what it wrote.
    fn run(&self, action: &str, input: &str) -> Result<(bool, Vec<u8>), ConfigError> {
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.error(format!("cannot be run: {}", error.kind())))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input fails by its answer.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = read_within(&mut child, PATIENCE);
        let Some(output) = output else {
            // Both can only fail when the helper has ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Err(self.error(format!("{action} does not answer within {} seconds", PATIENCE.as_secs())));
        };
        let status = child.wait().map_err(|error| self.error(error.to_string()))?;
        Ok((status.success(), output))
    }
}

/// Everything `child` writes, or `None` after `patience`.
fn read_within(child: &mut Child, patience: Duration) -> Option<Vec<u8>> {
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(ANSWER).read_to_end(&mut output);
        // The receiver is gone when patience ended first.
        let _ = sender.send(read.map(|_| output));
    });
    receiver.recv_timeout(patience).ok()?.ok()
}
