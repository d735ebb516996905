//! A directory that says no to everybody, or talks nonsense: what is known stays, who is not waits.

use super::*;

/// The directory knows nobody, or has only pages for everybody.
fn lies_to_all(f: &Fixture, dids: &[&Did], status: u16) {
    for did in dids {
        f.server.answer(did, status, "<html>Sorry.</html>");
    }
}

/// Rule 152: <https://atproto.com/specs/sync>
#[test]
fn a_directory_that_knows_nobody_any_more_is_not_believed() {
    for status in [200, 404, 410] {
        let f = Fixture::start();
        let (known, new) = (did('a'), did('b'));
        f.server.serve_document(&known, "known.test");
        assert_eq!(f.resolve(&known, How::Miss), "known.test");
        lies_to_all(&f, &[&known, &new], status);
        f.request(&new, How::Miss, 7).unwrap();
        f.server.wait_asked(&new, 2);
        assert_eq!(f.cached(&new), None, "{status}");
        // It is not believed of the one that it knew either: nobody is left to vouch for that, but
        // of two that are known one vouches for the other.
        f.server.serve_document(&new, "new.test");
        f.server.serve_document(&known, "known.test");
        assert_eq!(f.next(), (7, "new.test".to_owned()));
        lies_to_all(&f, &[&known, &new], status);
        f.directory.purge(&known, &host());
        assert_eq!(f.resolve(&known, How::Miss), "known.test", "{status}");
        assert_eq!(f.cached(&known), Some("known.test".to_owned()));
        assert!(f.metrics.identity_doubted.get() >= 2);
    }
}

/// Rules 151, 153: <https://web.plc.directory/spec/v0.1/did-plc>
#[test]
fn it_is_believed_while_it_knows_one_of_those_it_knew() {
    let f = Fixture::start();
    let known: Vec<_> = ('a'..'e').map(did).collect();
    for did in &known {
        f.server.serve_document(did, "known.test");
        f.resolve(did, How::Miss);
    }
    // Three of four go; the fourth is enough, and then those three are not asked for again.
    for gone in &known[1..] {
        f.server.answer(gone, 404, "");
    }
    assert_eq!(f.resolve(&did('x'), How::Miss), "not found");
    let asked: Vec<_> = known.iter().map(|did| f.server.asked(did)).collect();
    assert_eq!(asked, [2, 2, 2, 2]);
    assert_eq!(f.resolve(&did('y'), How::Miss), "not found");
    let asked: Vec<_> = known.iter().map(|did| f.server.asked(did)).collect();
    assert_eq!(asked, [3, 2, 2, 2]);
    assert_eq!(f.metrics.identity_doubted.get(), 0);
    // What is remembered costs nothing more.
    assert_eq!(f.resolve(&did('x'), How::Miss), "not found");
    assert_eq!(f.server.asked(&did('x')), 1);
}

#[test]
fn witnesses_of_the_store_count_from_the_first_question_on() {
    let f = Fixture::start();
    f.directory.add_witnesses([&did('w')]);
    f.request(&did('a'), How::Miss, 1).unwrap();
    f.server.wait_asked(&did('a'), 2);
    assert_eq!(f.cached(&did('a')), None);
    f.server.serve_document(&did('w'), "witness.test");
    assert_eq!(f.next(), (1, "not found".to_owned()));
}

#[test]
fn a_web_host_that_serves_a_page_is_waited_for_and_given_up() {
    let f = Fixture::start();
    let web = Server::start();
    let did = Did::parse(&format!("did:web:localhost%3A{}", web.port)).unwrap();
    let path = "/.well-known/did.json".to_owned();
    let answers = |status: u16, body: &str| {
        let answer = (status, body.to_owned());
        web.change(|s| drop(s.answers.insert(path.clone(), answer)));
    };
    answers(200, "<html>");
    f.request(&did, How::Miss, 1).unwrap();
    web.wait_path(&path, 1);
    assert_eq!(f.cached(&did), None);
    answers(200, &document(did.as_str(), "web.test"));
    assert_eq!(f.next(), (1, "web.test".to_owned()));
    // A page does not undo what is known.
    answers(200, "<html>");
    f.directory.purge(&did, &host());
    assert_eq!(f.resolve(&did, How::Miss), "web.test");
    // The word that there is nothing does.
    answers(404, "<html>");
    f.directory.purge(&did, &host());
    assert_eq!(f.resolve(&did, How::Miss), "not found");

    answers(200, "<html>");
    f.directory.purge(&did, &host());
    f.request(&did, How::Miss, 2).unwrap();
    f.put_forward(limits::IDENTITY_INVALID_PATIENCE);
    assert_eq!(f.next(), (2, "bad document".to_owned()));
    assert_eq!(f.cached(&did), Some("bad document".to_owned()));
}

/// Rule 152: <https://atproto.com/specs/sync>
#[test]
fn a_directory_says_how_long_it_is_to_be_left_alone() {
    let f = Fixture::frozen();
    f.server.change(|s| s.retry_after = Some(7));
    f.server.answer(&did('a'), 429, "");
    f.server.serve_document(&did('b'), "b.test");
    f.request(&did('a'), How::Miss, 1).unwrap();
    f.server.wait_asked(&did('a'), 1);
    wait_until("it is left alone", || f.directory.is_left_alone());
    let limited = (DidMethod::Plc, LookupResult::Limited);
    assert_eq!(f.metrics.identity_lookups.get(limited), 1);
    f.put_forward(Duration::from_millis(6_999));
    f.request(&did('b'), How::Miss, 2).unwrap();
    f.server.serve_document(&did('a'), "a.test");
    assert!(f.answers.recv_timeout(Duration::from_millis(100)).is_err());
    f.put_forward(Duration::from_millis(1));
    f.request(&did('b'), How::Miss, 3).unwrap();
    let mut answers: Vec<_> = (0..3).map(|_| f.next()).collect();
    answers.sort();
    let named = |n, name: &str| (n, name.to_owned());
    let expected = [named(1, "a.test"), named(2, "b.test"), named(3, "b.test")];
    assert_eq!(answers, expected);
}
