//! Each model, in every order: see `src/firehose_models.rs`, `src/host_models.rs` and
//! `src/sequencer_models.rs`.

use zlay_concurrency::{hosts, inboxes, streams};

#[test]
fn who_sleeps_hears_of_every_frame() {
    streams::who_sleeps_hears_of_every_frame();
}

#[test]
fn everybody_who_sleeps_is_woken() {
    streams::everybody_who_sleeps_is_woken();
}

#[test]
fn the_stop_ends_everybody() {
    streams::the_stop_ends_everybody();
}

#[test]
fn who_is_sent_away_wakes_for_it() {
    streams::who_is_sent_away_wakes_for_it();
}

#[test]
fn reads_are_whole_and_memory_is_bounded() {
    streams::reads_are_whole_and_memory_is_bounded();
}

#[test]
fn a_full_inbox_loses_nothing_and_lets_everybody_go_on() {
    inboxes::a_full_inbox_loses_nothing_and_lets_everybody_go_on();
}

#[test]
fn who_has_its_share_waits_and_goes_on() {
    inboxes::who_has_its_share_waits_and_goes_on();
}

#[test]
fn who_waits_for_room_is_told_that_there_will_be_none() {
    inboxes::who_waits_for_room_is_told_that_there_will_be_none();
}

#[test]
fn who_asks_is_answered_or_told_that_nobody_is_there() {
    inboxes::who_asks_is_answered_or_told_that_nobody_is_there();
}

#[test]
fn who_waits_for_a_limit_hears_of_others() {
    hosts::who_waits_for_a_limit_hears_of_others();
}
