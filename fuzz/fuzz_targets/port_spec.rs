//! Port specifiers.
#![no_main]

use cli::spec::{Ephemeral, Expansion, Spec};
use libfuzzer_sys::fuzz_target;
use stack::rule::{Capabilities, Pif, Protocol, Rule, Table};

fuzz_target!(|text: &str| {
    let Ok(spec) = text.parse::<Spec>() else { return };
    let printed = spec.to_string();
    assert_eq!(printed.parse(), Ok(spec), "{printed}");
    let ephemeral = Ephemeral(32_768..=60_999);
    for (pif, option) in [(Pif::Host, "-t"), (Pif::Splice, "-T")] {
        let (protocol, caps) = (Protocol::Tcp, Capabilities::ALL);
        let expand = |text| Expansion { option, text, protocol, pif, caps, ephemeral: &ephemeral };
        let rules = expand(text).rules();
        assert_eq!(rules, expand(&printed).rules().map_err(|error| error.replace(&printed, text)));
        let mut table = Table::default();
        for rule in rules.into_iter().flatten() {
            assert!(rule.first <= rule.last);
            assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule));
            let _ = table.add(rule, caps);
        }
        for (index, rule) in table.rules().iter().enumerate() {
            let others = table.rules().iter().skip(index + 1);
            assert!(others.clone().all(|other| !rule.conflicts(other)));
        }
    }
});
