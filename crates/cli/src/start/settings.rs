//! Knobs the host has for its own connections, which we follow.

use std::fs;
use std::time::Duration;

use stack::Settings;

/// Reads the host's sysctls; what is absent or makes no sense has the stack's default.
pub(super) fn read(seed: u64) -> Settings {
    let default = Settings::default();
    Settings {
        udp_timeout: seconds("netfilter/nf_conntrack_udp_timeout", default.udp_timeout),
        udp_stream_timeout: seconds(
            "netfilter/nf_conntrack_udp_timeout_stream",
            default.udp_stream_timeout,
        ),
        tcp_syn_retries: count("ipv4/tcp_syn_retries", default.tcp_syn_retries),
        tcp_syn_linear_timeouts: count(
            "ipv4/tcp_syn_linear_timeouts",
            default.tcp_syn_linear_timeouts,
        ),
        seed,
        ..default
    }
}

fn seconds(sysctl: &str, default: Duration) -> Duration {
    number(sysctl).map_or(default, |seconds| Duration::from_secs(seconds.into()))
}

/// The kernel itself takes at most 127.
fn count(sysctl: &str, default: u8) -> u8 {
    number(sysctl).and_then(|count| u8::try_from(count.min(127)).ok()).unwrap_or(default)
}

fn number(sysctl: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/net/{sysctl}")).ok()?.trim_end().parse().ok()
}
