//! A real registry for one test: Debian's `docker-registry` on a free port of loopback.

use crate::support::Scene;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How a registry is protected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Protection {
    /// Certificate and key: TLS instead of plain HTTP.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Asks clients for a certificate of this authority.
    pub(crate) client_authority: Option<PathBuf>,
    /// User and password of basic authentication.
    pub(crate) user: Option<(&'static str, &'static str)>,
}

/// A running registry. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    port: u16,
    /// What it says; shown when the test fails.
    log: PathBuf,
}

impl Registry {
    /// Starts an open registry without TLS.
    pub(crate) fn start(scene: &Scene) -> Self {
        Self::protected(scene, &Protection::default())
    }

    /// Starts a registry.
    pub(crate) fn protected(scene: &Scene, protection: &Protection) -> Self {
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(scene, protection) {
                return registry;
            }
        }
        panic!("docker-registry does not come up");
    }

    #[expect(clippy::zombie_processes, reason = "the one path without wait ends the test")]
    fn try_start(scene: &Scene, protection: &Protection) -> Option<Self> {
        let port = free_port();
        let config = scene.path(format!("registry-{port}.yml"));
        std::fs::write(&config, Self::configuration(scene, port, protection)).expect("a configuration");
        let log = config.with_extension("log");
        let mut command = scene.run("docker-registry").args(["serve"]).arg(&config).command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("docker-registry");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { child, port, log });
            }
            if child.try_wait().expect("wait for docker-registry").is_some() {
                eprintln!("{}", std::fs::read_to_string(&log).unwrap_or_default());
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("docker-registry does not listen");
    }

    fn configuration(scene: &Scene, port: u16, protection: &Protection) -> String {
        let data = scene.path(format!("registry-{port}"));
        let mut text = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}, level: error}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            data.display()
        );
        if let Some((certificate, key)) = &protection.tls {
            let (certificate, key) = (certificate.display(), key.display());
            text = format!("{text}  tls:\n    certificate: {certificate}\n    key: {key}\n");
            if let Some(authority) = &protection.client_authority {
                text = format!("{text}    clientcas: [{}]\n", authority.display());
            }
        }
        if let Some((user, password)) = protection.user {
            let file = scene.path(format!("htpasswd-{port}"));
            let line = scene.run("htpasswd").args(["-Bbn", "-C", "5", user, password]).ok();
            std::fs::write(&file, line.stdout).expect("htpasswd");
            text = format!("{text}auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        }
        text
    }

    /// Its name in references.
    pub(crate) fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Its address for proxies.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}

/// An authority and what it has signed, made by `openssl`.
#[derive(Debug)]
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// A new authority with a certificate for `localhost` and one for a client.
    pub(crate) fn new(scene: &Scene, name: &str) -> Self {
        let directory = scene.dir(name);
        scene
            .sh("new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $1.key -subj \"/CN=$1\" $2; }
                new ca '-x509 -days 30 -out ca.crt'
                for who in server client; do
                  new $who \"-out $who.csr\"
                  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > $who.ext
                  openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile $who.ext -out $who.crt
                done")
            .in_dir(&directory)
            .ok();
        Self { directory }
    }

    /// A file of it: `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// TLS with its certificate for `localhost`.
    pub(crate) fn protection(&self) -> Protection {
        Protection { tls: Some((self.file("server.crt"), self.file("server.key"))), ..Protection::default() }
    }
}
