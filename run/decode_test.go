package run

import (
	"encoding/json"
	"reflect"
	"testing"
)

// states are texts of container.json.
func states(t testing.TB) (list []string) {
	t.Helper()
	config := `{"Image":"x","Args":["a","b\n\u00e4"],"Labels":{"k":"v","":""},"Process":{"Entrypoint":["/x"],"Env":null,"TTY":true},` +
		`"Files":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","Options":["ro"]}],"ShmSize":-5},` +
		`"Limits":{"Resources":{"devices":[{"allow":false,"type":"c","major":1,"access":"rwm"}],"memory":{"limit":1048576,"swap":-1},` +
		`"cpu":{"shares":18446744073709551615},"pids":{"limit":100}},"OOMScoreAdj":-5,"Sysctls":{}},"Lifetime":{"StopTimeout":0,"Timeout":1000000000}}`
	for _, c := range []string{"{}", config} {
		list = append(list, `{"ID":"abc","Name":"web","Created":"2026-11-26T01:16:14.996666634Z","Config":`+c+
			`,"Status":"running","PidStart":12345678901234567890,"Pid":17,"ExitCode":-1,"OOMKilled":true,"Cgroups":["a:/b"],"Volumes":[]}`)
	}
	text, err := json.Marshal(&State{Config: Config{Args: []string{"<&>\u2028\xff"}}})
	if err != nil {
		t.Fatal(err)
	}
	return append(list, string(text))
}

// FuzzDecode: whatever the text, the outcome is that of package json.
func FuzzDecode(f *testing.F) {
	for _, s := range states(f) {
		f.Add(s)
	}
	for _, s := range []string{
		"", "null", "[]", "{", `{"ID":"a"`, `{"ID":"a"}}`, `{"ID":"a",}`, `{"id":"a"}`, `{"ID":1}`, `{"Pid":1.5}`, `{"Pid":1e3}`, `{"Pid":-}`, `{"Pid":01}`,
		`{"Unknown":{"a":[1,"}"]},"ID":"x"}`, `{"Created":"yesterday"}`, `{"Created":null,"Cgroups":null}`, ` { "ID" : "a" , "Pid" : 7 } `,
		`{"ID":"a","ID":"b","Labels":{"a":"b"},"Labels":{"c":"d"}}`, `{"Config":{"Limits":{"Resources":{"blockIO":{"weightDevice":[{"major":1,"weight":5}]}}}}}`,
		`{"ID":"` + "\x01" + `"}`, `{"ID":"\ud800"}`, `{"OOMKilled":nope}`, `{"Status":null,"ID":null}`, `{"Pid":99999999999999999999}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, want := State{ID: "before"}, State{ID: "before"}
		e1, e2 := decode([]byte(text), &got), json.Unmarshal([]byte(text), &want)
		if (e1 == nil) != (e2 == nil) || e1 == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q\n%+v, %v, want\n%+v, %v", text, got, e1, want, e2)
		}
	})
}

// TestDecode: what hull writes is read without package json.
func TestDecode(t *testing.T) {
	for _, text := range states(t) {
		var s State
		d := decoder{b: []byte(text)}
		if !d.value(reflect.ValueOf(&s).Elem()) || d.peek() != 0 {
			t.Errorf("at %.30q of %s", text[d.i:], text)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	text := []byte(states(b)[1])
	for name, read := range map[string]func([]byte, any) error{"decode": decode, "json": json.Unmarshal} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var s State
				if err := read(text, &s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
