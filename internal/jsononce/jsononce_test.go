package jsononce

import (
	"encoding/json"
	"math"
	"net/netip"
	"testing"
	"time"
)

type word string

type upper string

func (u upper) MarshalText() ([]byte, error) { return []byte("<" + u + ">"), nil }

type onPointer struct{ N int }

func (p *onPointer) MarshalJSON() ([]byte, error) { return json.Marshal(p.N + 1) }

type inner struct {
	A int `json:"a,omitempty"`
	B []inner
}

type outer struct{ inner }

type everything struct {
	Bool      bool
	Int       int8
	Uint      uint64
	Float     float64
	Text      string
	Word      word              `json:"word"`
	Left      string            `json:"-"`
	Empty     map[string]string `json:",omitempty"`
	Map       map[string]string
	Words     map[word]any
	Numbers   map[int]string
	Uppers    map[upper]bool
	List      []string
	Bytes     []byte
	Array     [2]bool
	Pointer   *inner
	Struct    inner
	Embedded  outer
	Any       any
	Raw       json.RawMessage
	Time      time.Time
	Address   netip.Addr
	Upper     upper
	OnPointer onPointer
	Duration  time.Duration
	None      *int          `json:",omitempty"`
	NoTime    time.Duration `json:",omitempty"`
	hidden    int
}

// unusual is left to encoding/json as a whole.
type unusual struct {
	Zero   time.Time `json:",omitzero"`
	Quoted int       `json:",string"`
}

// TestMarshal: the text is encoding/json's.
func TestMarshal(t *testing.T) {
	full := everything{
		Bool: true, Int: -8, Uint: math.MaxUint64, Float: 1e30, Text: "a<b>&\"\\\n\x7f\x80é\u2028", Word: "w", Left: "l",
		Map: map[string]string{"b": "2", "a": "1", "a\"": ""}, Words: map[word]any{"x": 1, "a": nil, "s": []any{"t", 2.5}},
		Numbers: map[int]string{10: "", 9: ""}, Uppers: map[upper]bool{"u": true}, List: []string{"", "x"}, Bytes: []byte("bytes"),
		Pointer: &inner{A: 1, B: []inner{{}, {A: 2}}}, Embedded: outer{inner{A: 3}}, Any: map[string]any{"k": inner{}},
		Raw: json.RawMessage(` {"r" : [1, 2]} `), Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
		Address: netip.MustParseAddr("fe80::1%eth0"), Upper: "up", OnPointer: onPointer{4}, Duration: time.Second, hidden: 6,
	}
	list := []int{}
	for name, v := range map[string]any{
		"zero": everything{}, "full": full, "pointer": &full, "list": []everything{full, {}}, "nil": nil, "unusual": unusual{Quoted: 5}, "text": "<", "empty list": list,
		"nil pointer": (*inner)(nil), "empty": struct{}{}, "embedded": outer{}, "bytes": [3]byte{1, 2, 3}, "empty map": map[string]int{},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Marshal(v)
			if err != nil || string(got) != string(want) {
				t.Errorf("%v\n got %s\nwant %s", err, got, want)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, v := range map[string]any{
		"channel": struct{ C chan int }{}, "function": []func(){nil}, "infinity": map[string]float64{"x": math.Inf(1)},
		"time": struct{ T *time.Time }{&[]time.Time{time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC)}[0]},
	} {
		if got, err := Marshal(v); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}
