//! Compressed streams of gzip(1) and zstd(1) read by ours, and ours read by them.

use crate::support::{Need, Scene};
use layerfs::archive::compression::{Compression, Decoder, Encoder, ExpansionLimit, Level};
use std::fs::File;
use std::io::{Read, Write};

const NEEDS: [Need; 2] = [Need::Program("gzip"), Need::Program("zstd")];

/// Three megabytes of something like text, the same on every run.
fn sample() -> Vec<u8> {
    (0..3_000_000u32).map(|at| b"layerfs reads and writes it\n"[(at ^ (at >> 7) ^ (at >> 11)) as usize % 28]).collect()
}

#[test]
fn their_streams_are_read() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let data = sample();
    std::fs::write(scene.path("sample"), &data).unwrap();
    scene.sh("head -c 0 sample >empty; head -c 1000000 sample >one; tail -c 2000000 sample >two").ok();
    for (script, twice) in [
        ("gzip -c sample >out", false),
        ("gzip -1 -c sample >out", false),
        ("gzip -n9c <sample >out", false),
        ("gzip -c one empty two >out", false),
        ("{ gzip -c sample; head -c 10240 /dev/zero; } >out", false),
        ("zstd -q -c sample >out", false),
        ("zstd -q -19 -T0 -c sample >out", false),
        ("zstd -q --long=27 --no-check -c sample >out", false),
        (
            "{ zstd -q -c one; printf '\\120\\052\\115\\030\\003\\0\\0\\0abc'; zstd -q -c empty; zstd -q -c two; } >out",
            false,
        ),
        ("{ zstd -q -c sample; zstd -q -c sample; } >out", true),
    ] {
        scene.sh(script).ok();
        let mut plain = Vec::new();
        let mut decoder = Decoder::new(File::open(scene.path("out")).unwrap(), ExpansionLimit::default()).unwrap();
        decoder.read_to_end(&mut plain).unwrap_or_else(|error| panic!("{script}: {error}"));
        let expected = if twice { data.repeat(2) } else { data.clone() };
        assert!(plain == expected, "{script}: other bytes");
    }
}

#[test]
fn our_streams_are_read_by_them() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let data = sample();
    std::fs::write(scene.path("sample"), &data).unwrap();
    for (compression, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        for (level, length) in [(Level::Default, data.len()), (Level::Exactly(1), data.len()), (Level::Exactly(9), 0)] {
            let file = File::create(scene.path("out")).unwrap();
            let mut encoder = Encoder::new(file, compression, level).unwrap();
            encoder.write_all(&data[..length]).unwrap();
            encoder.finish().unwrap();
            let script =
                format!("{program} -t <out && {program} -dc <out >back && head -c {length} sample | cmp - back");
            scene.sh(script).ok();
        }
    }
}
