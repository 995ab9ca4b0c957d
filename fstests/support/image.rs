//! Small images made in the test itself, of layers given as text or as tars, in the formats that others write.

use super::tree;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How layers are stored in an OCI layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Packing {
    Plain,
    #[default]
    Gzip,
    Zstd,
}

/// An image in the making. Layers count from the bottom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    layers: Vec<Vec<u8>>,
    config: Value,
    packing: Packing,
}

/// `sha256:` and the hexadecimal digest of `bytes`.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

impl Image {
    /// An image without layers.
    pub(crate) fn new() -> Self {
        Self { config: json!({}), ..Self::default() }
    }

    /// Adds a layer given as the text of a [`tree`].
    pub(crate) fn layer(self, text: &str) -> Self {
        self.layer_tar(tree::to_tar(&tree::parse(text)))
    }

    /// Adds a layer given as an uncompressed tar.
    pub(crate) fn layer_tar(mut self, tar: impl Into<Vec<u8>>) -> Self {
        self.layers.push(tar.into());
        self
    }

    /// Sets the `config` of the image's configuration: `Cmd`, `Env` and so on.
    pub(crate) fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// Chooses how layers are stored; gzip when not called.
    pub(crate) fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// The layers' tars.
    pub(crate) fn layers(&self) -> &[Vec<u8>] {
        &self.layers
    }

    /// The image's configuration, as bytes.
    pub(crate) fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|tar| digest(tar)).collect();
        let history: Vec<Value> = self.layers.iter().map(|_| json!({"created_by": "a test"})).collect();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2020-09-13T12:26:40Z", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        });
        serde_json::to_vec(&config).expect("a configuration")
    }

    /// Writes it as an OCI image layout into the new directory `directory` under the name `tag`, and returns that
    /// directory.
    pub(crate) fn write_oci(&self, directory: &Path, tag: &str) -> PathBuf {
        let blobs = directory.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a directory for blobs");
        let blob = |bytes: &[u8], media_type: &str| {
            let digest = digest(bytes);
            std::fs::write(blobs.join(&digest["sha256:".len()..]), bytes).expect("a blob");
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let suffix = match self.packing {
            Packing::Plain => "",
            Packing::Gzip => "+gzip",
            Packing::Zstd => "+zstd",
        };
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        let layers: Vec<Value> = self.layers.iter().map(|tar| blob(&self.pack(tar), &media_type)).collect();
        let config = blob(&self.configuration(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
        });
        let manifest = serde_json::to_vec(&manifest).expect("a manifest");
        let mut entry = blob(&manifest, "application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        std::fs::write(directory.join("index.json"), index.to_string()).expect("an index");
        std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a layout");
        directory.to_owned()
    }

    /// Writes it as `docker save` does, under the name `reference`, and returns `file`.
    pub(crate) fn write_docker_archive(&self, file: &Path, reference: &str) -> PathBuf {
        let mut builder = tar::Builder::new(std::fs::File::create(file).expect("an archive"));
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).expect("a member of an archive");
        };
        let mut names = Vec::new();
        for tar in &self.layers {
            let name = format!("{}.tar", &digest(tar)["sha256:".len()..]);
            add(&name, tar);
            names.push(name);
        }
        let configuration = self.configuration();
        let name = format!("{}.json", &digest(&configuration)["sha256:".len()..]);
        add(&name, &configuration);
        let manifest = json!([{"Config": name, "RepoTags": [reference], "Layers": names}]);
        add("manifest.json", manifest.to_string().as_bytes());
        builder.finish().expect("the end of an archive");
        file.to_owned()
    }

    fn pack(&self, tar: &[u8]) -> Vec<u8> {
        match self.packing {
            Packing::Plain => tar.to_owned(),
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(tar).and_then(|()| encoder.finish()).expect("gzip")
            }
            Packing::Zstd => zstd::encode_all(tar, 1).expect("zstd"),
        }
    }
}
