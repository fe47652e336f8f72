//! What must hold for whatever a proxy, or whoever passes for one, sends before and in a request.
//! Run by the fuzzer and by `tests/random.rs`.

use visavis_signaling::{
    access::AccessToken,
    origin::{AllowedOrigin, Asker, asker},
    proxy::{Preamble, parse_forwarded, parse_node, read_preamble},
};

/// Panics if `data` breaks a parser.
pub fn check(data: &[u8]) {
    preamble(data);
    let text = String::from_utf8_lossy(data);
    let hops = parse_forwarded(&text);
    assert!(!hops.is_empty() && hops.len() <= text.len() + 1);
    for hop in hops.iter().filter_map(|hop| hop.address) {
        assert_eq!(parse_node(&hop.to_string()), Some(hop));
    }
    if let Some(address) = parse_node(&text) {
        assert_eq!(address, address.to_canonical());
    }
    let (origin, host) = text.split_once('\n').unwrap_or((&text, "tea.example:8080"));
    let known = asker(Some(origin), Some(host), None, &[]);
    assert!(matches!(known, Asker::OwnPage | Asker::Stranger));
    if known == Asker::OwnPage {
        // Then it names one, and a page of it could be allowed just as well.
        assert!(origin.contains("://"), "{origin}");
    }
    if let Ok(allowed) = text.parse::<AllowedOrigin>() {
        assert_eq!(allowed.to_string().parse::<AllowedOrigin>(), Ok(allowed));
    }
    if let Ok(token) = AccessToken::parse(&text) {
        assert_eq!(AccessToken::parse(token.expose()), Ok(token));
    }
}

/// Read as the server reads it: as many bytes as it asks for, and none beyond.
fn preamble(data: &[u8]) {
    let mut known = 0;
    loop {
        match read_preamble(&data[..known]) {
            Ok(Preamble::More(more)) => {
                assert!(more > 0);
                known += more;
                assert!(known < 4096, "it asks for ever");
                if known > data.len() {
                    return;
                }
            }
            Ok(Preamble::Done(_)) => {
                assert!(known >= 15);
                return;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}
