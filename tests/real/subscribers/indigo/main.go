// A subscriber built on indigo, the reference implementation in Go: its event reader, its directory
// and its verification, the same code that `goat firehose --verify-*` and relays in Go run.
//
// It prints one JSON line an event (seq, type, did, and for commits how many ops were verified) and
// one with "error" for whatever it does not accept. It ends when the connection does.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/bluesky-social/indigo/events"
	"github.com/bluesky-social/indigo/events/schedulers/sequential"
	"github.com/gorilla/websocket"
)

type line struct {
	Seq   int64  `json:"seq,omitempty"`
	Type  string `json:"type,omitempty"`
	Did   string `json:"did,omitempty"`
	Ops   *int   `json:"ops,omitempty"`
	Error string `json:"error,omitempty"`
	Open  bool   `json:"open,omitempty"`
	Close string `json:"close,omitempty"`
}

func say(l line) {
	b, _ := json.Marshal(l)
	fmt.Println(string(b))
}

type subscriber struct {
	dir identity.Directory
}

// commit checks structure, signature (once more with a fresh key if it fails) and the inversion.
func (s subscriber) commit(ctx context.Context, evt *comatproto.SyncSubscribeRepos_Commit) error {
	ops := len(evt.Ops)
	l := line{Seq: evt.Seq, Type: "#commit", Did: evt.Repo, Ops: &ops}
	if err := s.verify(ctx, evt); err != nil {
		l.Error = err.Error()
	}
	say(l)
	return nil
}

func (s subscriber) verify(ctx context.Context, evt *comatproto.SyncSubscribeRepos_Commit) error {
	commit, _, err := repo.LoadCommitFromCAR(ctx, bytes.NewReader(evt.Blocks))
	if err != nil {
		return err
	}
	if err := commit.VerifyStructure(); err != nil {
		return err
	}
	if commit.Rev != evt.Rev || commit.DID != evt.Repo {
		return fmt.Errorf("the commit is of %s at %s", commit.DID, commit.Rev)
	}
	if err := s.signature(ctx, commit); err != nil {
		return err
	}
	// The first commit of an account has nothing to invert to.
	if evt.PrevData == nil && evt.Since == nil {
		return nil
	}
	if evt.PrevData == nil {
		return fmt.Errorf("no prevData")
	}
	_, err = repo.VerifyCommitMessage(ctx, evt)
	return err
}

func (s subscriber) signature(ctx context.Context, commit *repo.Commit) error {
	did, err := syntax.ParseDID(commit.DID)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		ident, err := s.dir.LookupDID(ctx, did)
		if err != nil {
			return err
		}
		key, err := ident.PublicKey()
		if err != nil {
			return err
		}
		err = commit.VerifySignature(key)
		if err == nil || attempt == 1 {
			return err
		}
		if err := s.dir.Purge(ctx, did.AtIdentifier()); err != nil {
			return err
		}
	}
}

func (s subscriber) sync(ctx context.Context, evt *comatproto.SyncSubscribeRepos_Sync) error {
	l := line{Seq: evt.Seq, Type: "#sync", Did: evt.Did}
	commit, _, err := repo.LoadCommitFromCAR(ctx, bytes.NewReader(evt.Blocks))
	if err == nil {
		err = s.signature(ctx, commit)
	}
	if err == nil && commit.Rev != evt.Rev {
		err = fmt.Errorf("the commit is at %s", commit.Rev)
	}
	if err != nil {
		l.Error = err.Error()
	}
	say(l)
	return nil
}

func (s subscriber) identity(ctx context.Context, evt *comatproto.SyncSubscribeRepos_Identity) error {
	l := line{Seq: evt.Seq, Type: "#identity", Did: evt.Did}
	did, err := syntax.ParseDID(evt.Did)
	if err == nil {
		err = s.dir.Purge(ctx, did.AtIdentifier())
	}
	if err != nil {
		l.Error = err.Error()
	}
	say(l)
	return nil
}

func (s subscriber) account(evt *comatproto.SyncSubscribeRepos_Account) error {
	say(line{Seq: evt.Seq, Type: "#account", Did: evt.Did})
	return nil
}

func run(relay, plc, cursor string) error {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx := context.Background()
	base := identity.BaseDirectory{PLCURL: plc, SkipHandleVerification: true}
	dir := identity.NewCacheDirectory(&base, 10_000, time.Hour, time.Minute, time.Minute)
	s := subscriber{dir: dir}
	url := relay + "/xrpc/com.atproto.sync.subscribeRepos"
	if cursor != "" {
		url += "?cursor=" + cursor
	}
	con, _, err := websocket.DefaultDialer.Dial(url, http.Header{"User-Agent": {"zlay-test-indigo"}})
	if err != nil {
		return err
	}
	say(line{Open: true})
	callbacks := &events.RepoStreamCallbacks{
		RepoCommit: func(e *comatproto.SyncSubscribeRepos_Commit) error { return s.commit(ctx, e) },
		RepoSync:   func(e *comatproto.SyncSubscribeRepos_Sync) error { return s.sync(ctx, e) },
		RepoIdentity: func(e *comatproto.SyncSubscribeRepos_Identity) error {
			return s.identity(ctx, e)
		},
		RepoAccount: s.account,
		Error: func(e *events.ErrorFrame) error {
			return fmt.Errorf("error frame: %s: %s", e.Error, e.Message)
		},
	}
	return events.HandleRepoStream(ctx, con, sequential.NewScheduler(relay, callbacks.EventHandler), nil)
}

func main() {
	relay := flag.String("relay", "ws://localhost:3000", "the relay, ws://host:port")
	plc := flag.String("plc", "https://plc.directory", "the PLC directory")
	cursor := flag.String("cursor", "", "replay from here")
	flag.Parse()
	err := run(*relay, *plc, *cursor)
	say(line{Close: fmt.Sprint(err)})
	os.Exit(0)
}
