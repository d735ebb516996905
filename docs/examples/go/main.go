// A subscriber of an AT Protocol relay: go run . wss://relay.example.com cursor.txt
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/events"
	"github.com/gorilla/websocket"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car"
)

const (
	frameBytesMax = 5_000_000
	saveEvery     = time.Second
	backoffFirst  = 500 * time.Millisecond
	backoffMax    = 64 * time.Second
	// The relay pings after 30 seconds without a frame; longer than this, and the connection is dead.
	silenceMax = 90 * time.Second
)

// errFatal is what coming back would not mend.
var errFatal = errors.New("fatal")

type line struct {
	Seq    int64   `json:"seq"`
	Type   string  `json:"type"`
	Did    string  `json:"did"`
	Ops    [][]any `json:"ops,omitzero"`
	Active *bool   `json:"active,omitempty"`
}

type subscriber struct {
	url, file string
	lock      sync.Mutex
	// The seq of the last event that was dealt with; -1: begin with what happens now.
	cursor  int64
	savedAt time.Time
}

func newSubscriber(relay, file string) (*subscriber, error) {
	s := &subscriber{url: relay + "/xrpc/com.atproto.sync.subscribeRepos", file: file, cursor: -1}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		s.cursor, err = strconv.ParseInt(string(text), 10, 64)
	}
	return s, err
}

// save writes the cursor whole or not at all: a half-written one would be another one.
func (s *subscriber) save() error {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.savedAt = time.Now()
	if s.cursor < 0 {
		return nil
	}
	part := s.file + ".part"
	if err := os.WriteFile(part, []byte(strconv.FormatInt(s.cursor, 10)), 0o644); err != nil {
		return err
	}
	return os.Rename(part, s.file)
}

func (s *subscriber) run(ctx context.Context) error {
	for backoff := backoffFirst; ; backoff = min(backoff*2, backoffMax) {
		before := s.cursor
		err := s.connection(ctx)
		if errors.Is(err, errFatal) {
			return err
		}
		fmt.Fprintln(os.Stderr, "closed:", err)
		if s.cursor != before {
			backoff = backoffFirst
			if err := s.save(); err != nil {
				return err
			}
		}
		time.Sleep(time.Duration(float64(backoff) * (0.5 + rand.Float64()/2)))
	}
}

func (s *subscriber) connection(ctx context.Context) error {
	url := s.url
	if s.cursor >= 0 {
		url += "?cursor=" + strconv.FormatInt(s.cursor, 10)
	}
	con, answer, err := websocket.DefaultDialer.DialContext(ctx, url, nil)
	// 429: too many subscriptions of this address. 502 to 504: the proxy has no relay now.
	if answer != nil && answer.StatusCode == http.StatusBadRequest {
		return fmt.Errorf("%w: the relay refuses the cursor", errFatal)
	}
	if err != nil {
		return err
	}
	defer con.Close()
	con.SetReadLimit(frameBytesMax)
	pong := con.PingHandler()
	con.SetPingHandler(func(data string) error {
		con.SetReadDeadline(time.Now().Add(silenceMax))
		return pong(data)
	})
	for {
		con.SetReadDeadline(time.Now().Add(silenceMax))
		_, message, err := con.NextReader()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(message)
		if err != nil {
			return err
		}
		if err := s.frame(data); err != nil {
			return err
		}
	}
}

// frame takes two DAG-CBOR items: what it is, and what it says.
func (s *subscriber) frame(data []byte) error {
	var e events.XRPCStreamEvent
	if err := e.Deserialize(bytes.NewReader(data)); err != nil {
		return err
	}
	switch {
	case e.Error != nil:
		// After ConsumerTooSlow the cursor is still good; after FutureCursor it is another relay's.
		if e.Error.Error == "FutureCursor" {
			return fmt.Errorf("%w: %s: %s", errFatal, e.Error.Error, e.Error.Message)
		}
		fmt.Fprintln(os.Stderr, "error:", e.Error.Error, e.Error.Message)
		return nil
	case e.RepoInfo != nil:
		// OutdatedCursor: events are missing.
		fmt.Fprintln(os.Stderr, "info:", e.RepoInfo.Name)
		return nil
	case e.RepoCommit != nil:
		c := e.RepoCommit
		ops, err := operations(c)
		if err != nil {
			// One event that this program does not understand must not stop it for ever.
			fmt.Fprintln(os.Stderr, c.Seq, err)
		}
		return s.done(line{Seq: c.Seq, Type: "#commit", Did: c.Repo, Ops: ops})
	case e.RepoSync != nil:
		return s.done(line{Seq: e.RepoSync.Seq, Type: "#sync", Did: e.RepoSync.Did})
	case e.RepoIdentity != nil:
		return s.done(line{Seq: e.RepoIdentity.Seq, Type: "#identity", Did: e.RepoIdentity.Did})
	case e.RepoAccount != nil:
		a := e.RepoAccount
		return s.done(line{Seq: a.Seq, Type: "#account", Did: a.Did, Active: &a.Active})
	}
	return nil // a type of a later day
}

func operations(c *comatproto.SyncSubscribeRepos_Commit) ([][]any, error) {
	file, err := car.NewCarReader(bytes.NewReader(c.Blocks))
	if err != nil {
		return nil, err
	}
	blocks := map[cid.Cid][]byte{}
	for {
		block, err := file.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		blocks[block.Cid()] = block.RawData()
	}
	ops := [][]any{}
	for _, op := range c.Ops {
		var kind any
		if op.Cid != nil {
			record, err := atdata.UnmarshalCBOR(blocks[cid.Cid(*op.Cid)])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", op.Path, err)
			}
			kind = record["$type"]
		}
		ops = append(ops, []any{op.Action, op.Path, kind})
	}
	return ops, nil
}

func (s *subscriber) done(l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	s.lock.Lock()
	s.cursor = l.Seq
	due := time.Since(s.savedAt) > saveEvery
	s.lock.Unlock()
	if due {
		return s.save()
	}
	return nil
}

func main() {
	s, err := newSubscriber(os.Args[1], os.Args[2])
	if err == nil {
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		go func() {
			<-interrupted
			s.save()
			os.Exit(0)
		}()
		err = s.run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
