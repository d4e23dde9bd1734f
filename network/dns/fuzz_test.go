package dns

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// FuzzAnswer: no question or answer, both anybody's bytes, upsets the server, and what it says itself is an answer.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.", "2.0.1.10.in-addr.arpa.", "0123456789ab.", "nosuch.example."} {
		b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
		_ = b.StartQuestions()
		_ = b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeALL, Class: dnsmessage.ClassINET})
		msg, err := b.Finish()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(msg, table().Answer(msg))
	}
	hosts := table()
	f.Fuzz(func(t *testing.T, query, answer []byte) {
		head, q, err := ParseQuery(query)
		for _, made := range [][]byte{hosts.Answer(query), Failure(query, dnsmessage.RCodeServerFailure)} {
			if made == nil {
				continue
			}
			if err != nil {
				t.Fatal("answered what is no question")
			}
			if !isAnswer(made, query, q) {
				t.Fatalf("%x is no answer to %x (%v)", made, query, head)
			}
		}
		if err == nil && isAnswer(answer, query, q) && (answer[0] != query[0] || answer[1] != query[1]) {
			t.Fatal("an answer to another question")
		}
	})
}
