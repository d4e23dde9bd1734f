package run

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/hullrun/hull/internal/jsononce"
	"github.com/hullrun/hull/network"
)

// TestStateText: what container.json, the journal and a network's file hold is what encoding/json would have written, whatever
// their fields are.
func TestStateText(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var v struct {
			State   State
			Event   Event
			Network network.Network
		}
		fill(reflect.ValueOf(&v).Elem(), random)
		want, err := json.Marshal(&v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := jsononce.Marshal(&v); err != nil || string(got) != string(want) {
			t.Fatalf("%v\n got %s\nwant %s", err, got, want)
		}
	}
}

// fill gives v and all that is in it random values, some of them zero.
func fill(v reflect.Value, random *rand.Rand) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(random.Int64N(1e10), random.Int64N(1e9)).UTC()))
		return
	}
	if random.IntN(4) == 0 && v.Kind() != reflect.Struct {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(random.Int64N(256) - 128)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(random.Uint32() & 0x7f))
	case reflect.Float64:
		v.SetFloat(random.Float64())
	case reflect.String:
		v.SetString([]string{"word", `"<&>\`, "é\x00"}[random.IntN(3)])
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), random)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), random.IntN(3), 3))
		for i := range v.Len() {
			fill(v.Index(i), random)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range random.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, random)
			fill(value, random)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), random)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), random)
		}
	default:
		panic("no values of type " + v.Type().String())
	}
}
