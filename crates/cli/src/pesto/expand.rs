//! From a specifier of ports to rules.

use stack::rule::{Capabilities, Listen, Pif, Protocol, Rule};

/// The rules that `text`, the value of `option`, stands for at a server that can do `caps`; none for
/// `none`.
///
/// # Errors
/// A line for the user.
// TEMPORARY: `[ADDRESS/]FIRST[-LAST][:FIRST[-LAST]]` alone, until the grammar is shared with pasta.
pub(super) fn expand(
    option: &str,
    text: &str,
    protocol: Protocol,
    pif: Pif,
    caps: Capabilities,
) -> Result<Vec<Rule>, String> {
    let _ = option;
    let wrong = || format!("Invalid port specifier '{text}'");
    if text == "none" {
        return Ok(Vec::new());
    }
    let (listen, ports) = match text.rsplit_once('/') {
        Some((address, ports)) => {
            let address = address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
            (Listen::On(address), ports)
        }
        None => (caps.any(), text),
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let (from, to) = ports.split_once(':').unwrap_or((ports, ports));
    let (first, last) = range(from).ok_or_else(wrong)?;
    let (to, _) = range(to).ok_or_else(wrong)?;
    let device = (pif == Pif::Splice && caps.device).then(|| "lo".to_owned());
    Ok(vec![Rule {
        protocol,
        listen,
        device,
        first,
        last,
        to,
        target: None,
        best_effort: false,
        scan: false,
    }])
}
