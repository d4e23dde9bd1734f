package layers

import (
	"reflect"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// number gives every exported field below v a value of its own, so that one that is forgotten, or mistaken for another, shows.
func number(v reflect.Value, n *int64) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(*n, *n).UTC()))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		number(v.Elem(), n)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() { // else it is not for others, and not for a record
				number(v.Field(i), n)
			}
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		number(v.Index(0), n)
		number(v.Index(1), n)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			number(key, n)
			number(value, n)
			v.SetMapIndex(key, value)
		}
	case v.Kind() == reflect.String:
		v.SetString(time.Duration(*n).String())
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(-*n)
	default:
		v.SetUint(uint64(*n))
	}
}

func emptyRecord() record { return record{Image: &Image{Config: &v1.ConfigFile{}}} }

func TestRecord(t *testing.T) {
	var full, n = record{}, int64(1 << 40)
	number(reflect.ValueOf(&full).Elem(), &n)
	empty := emptyRecord()
	lists := emptyRecord()
	lists.Image.Layers, lists.Image.Config.Config.Env, lists.Image.Config.Config.Labels = []string{}, []string{}, map[string]string{}
	for name, r := range map[string]record{"full": full, "empty": empty, "empty lists": lists} {
		b := r.encode()
		got := emptyRecord()
		if !got.decode(b) || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: %+v\nwant %+v", name, got, r)
		}
		for cut := range len(b) {
			if got := emptyRecord(); got.decode(b[:cut]) {
				t.Errorf("%s: %d of %d bytes pass for a record", name, cut, len(b))
			}
		}
	}
	// Switches share a value in full, so that each needs a look of its own.
	for i := range reflect.TypeFor[v1.Config]().NumField() {
		r := emptyRecord()
		f := reflect.ValueOf(&r.Image.Config.Config).Elem().Field(i)
		number(f, &n)
		if got := emptyRecord(); !got.decode(r.encode()) || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: lost", reflect.TypeFor[v1.Config]().Field(i).Name)
		}
	}
}

func FuzzRecord(f *testing.F) {
	full, n := record{}, int64(0)
	number(reflect.ValueOf(&full).Elem(), &n)
	f.Add(full.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r := emptyRecord()
		if !r.decode(b) {
			return
		}
		again := emptyRecord()
		if !again.decode(r.encode()) || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v\nbecomes %+v", r, again)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	full, n := record{}, int64(0)
	number(reflect.ValueOf(&full).Elem(), &n)
	data := full.encode()
	for b.Loop() {
		r := emptyRecord()
		r.decode(data)
	}
}
