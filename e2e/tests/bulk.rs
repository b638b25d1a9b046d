//! Bulk transfers through taps of every size, compared by SHA-256. `E2E_BYTES` sets the size.

#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use e2e::{Case, SHORT, bulk_bytes, matrix};
use std::time::Instant;
use testkit::peer::stream;

macro_rules! sizes {
    ($($mtu:literal: $out:ident $into:ident;)*) => {
        $(
            fn $out(case: &Case<'_>) -> Result<()> {
                bulk(case, "put", $mtu)
            }
            fn $into(case: &Case<'_>) -> Result<()> {
                bulk(case, "get", $mtu)
            }
        )*
    };
}

sizes! {
    "65520": out_65520 in_65520;
    "9000": out_9000 in_9000;
    "1500": out_1500 in_1500;
    "1280": out_1280 in_1280;
    "576": out_576 in_576;
}

matrix!(all: out_65520, in_65520, out_9000, in_9000, out_1500, in_1500, out_1280, in_1280);
matrix!(v4: out_576, in_576);

fn bulk(case: &Case<'_>, verb: &str, mtu: &str) -> Result<()> {
    let _server = case.server()?;
    let guest = case.guest(&[case.family.flag(), "-m", mtu])?;
    let link = case.rig.run(&guest.place(), SHORT, &["ip", "-o", "link", "show", "eth0"])?;
    ensure!(link.contains(&format!(" mtu {mtu} ")), "{link}");
    let size = bulk_bytes();
    let begin = Instant::now();
    let got = case.ask(&guest.place(), verb, case.family.peer(), &size.to_string())?;
    let took = begin.elapsed().as_secs_f64();
    ensure!(got == stream::sum(size), "{got}");
    eprintln!("{size} bytes in {took:.2} s, sums and all");
    Ok(())
}
