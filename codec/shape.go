package codec

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"
)

// shape is what has to be known of a type to find in its values what would not
// come back, and cannot be seen in the type: nesting without end, keys of maps
// in an interface{}, and times.
type shape struct {
	sound     bool // no value has such, if it is not too deep
	height    int  // how deeply values are nested at most, if it is sound
	elem, key *shape
	fields    []shapeField // of a struct, those that are stored
}

type shapeField struct {
	index int
	*shape
}

var (
	shapes sync.Map // reflect.Type → *shape, finished ones

	errDeep   = fmt.Errorf("is nested more than %d deep, or contains itself", maxDepth)
	errKey    = errors.New("has in an interface{} a key of a map that is neither a string nor a number, and would not come back as one")
	errOffset = errors.New("has a time whose offset from UTC has seconds, and which would come back as another instant")

	timeType = reflect.TypeFor[time.Time]()
)

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	m := shaping{}
	s := m.of(t)
	for t, s := range m {
		shapes.Store(t, s)
	}
	return s
}

// shaping has the shapes that are being made. One that is not finished is not
// sound, nor are those that it is found in: they are in a circle.
type shaping map[reflect.Type]*shape

func (m shaping) of(t reflect.Type) *shape {
	if s, ok := m[t]; ok {
		return s
	}
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{}
	m[t] = s
	if encodesItself(t) {
		s.sound = t != timeType
		return s
	}
	switch t.Kind() {
	case reflect.Interface:
	case reflect.Pointer:
		s.elem = m.of(t.Elem())
		s.sound, s.height = s.elem.sound, s.elem.height
	case reflect.Slice, reflect.Array:
		s.elem = m.of(t.Elem())
		s.sound = s.elem.sound
		if !flat(t.Elem().Kind()) {
			s.height = 1 + s.elem.height
		}
	case reflect.Map:
		s.key, s.elem = m.of(t.Key()), m.of(t.Elem())
		s.sound = flat(t.Key().Kind()) && s.elem.sound
		if !flat(t.Elem().Kind()) {
			s.height = 1 + s.elem.height
		}
	case reflect.Struct:
		sound := true
		for f := range t.Fields() {
			if f.Name != "_" && storedField(f) {
				field := shapeField{f.Index[0], m.of(f.Type)}
				s.fields = append(s.fields, field)
				s.height = max(s.height, 1+field.height)
				sound = sound && field.sound
			}
		}
		s.sound = sound // not before: a field may lead back here
	default:
		s.sound = true
	}
	return s
}

// check returns an error if v, which is of the shape's type and may be nested
// depth deep, would not come back. Within an interface{}, how maps are decoded
// depends on their keys.
func (s *shape) check(v reflect.Value, depth int, within bool) error {
	if s.sound && s.height <= depth {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if k := v.Type().Elem().Kind(); k == reflect.Pointer || k == reflect.Interface {
			if depth--; depth < 0 { // it may point to itself
				return errDeep
			}
		}
		return s.elem.check(v.Elem(), depth, within)
	case reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return shapeOf(v.Elem().Type()).check(v.Elem(), depth, true)
	case reflect.Struct:
		if v.Type() == timeType {
			return checkTime(v)
		}
		return s.checkFields(v, depth, within)
	case reflect.Slice, reflect.Array, reflect.Map:
		if v.Len() == 0 {
			return nil
		}
	}
	if depth <= 0 {
		return errDeep
	}
	if v.Kind() == reflect.Map {
		return s.checkMap(v, depth, within)
	}
	for i := range v.Len() {
		if err := s.elem.check(v.Index(i), depth-1, within); err != nil {
			return err
		}
	}
	return nil
}

func checkTime(v reflect.Value) error {
	var t time.Time
	if v.CanAddr() {
		t = *v.Addr().Interface().(*time.Time) // allocates nothing
	} else {
		t = v.Interface().(time.Time)
	}
	if _, offset := t.Zone(); offset%60 != 0 && !t.IsZero() {
		return errOffset
	}
	return nil
}

func (s *shape) checkFields(v reflect.Value, depth int, within bool) error {
	if depth <= 0 && len(s.fields) > 0 {
		return errDeep
	}
	for _, f := range s.fields {
		if err := f.check(v.Field(f.index), depth-1, within); err != nil {
			return err
		}
	}
	return nil
}

func (s *shape) checkMap(v reflect.Value, depth int, within bool) error {
	decided := within || v.Type().Key().Kind() == reflect.Interface
	for iter := v.MapRange(); iter.Next(); {
		if decided && !comesBack(iter.Key(), within) {
			return errKey
		}
		if err := s.key.check(iter.Key(), depth-1, within); err != nil {
			return err
		}
		if err := s.elem.check(iter.Value(), depth-1, within); err != nil {
			return err
		}
	}
	return nil
}

// comesBack reports whether a key that is decoded into an interface{} will be a
// key. If the map is in one, too, keys are first taken to be strings, and nil
// and times pass for these.
func comesBack(key reflect.Value, within bool) bool {
	if key.Kind() == reflect.Interface {
		key = key.Elem()
	}
	return !within && (!key.IsValid() || key.Type() == timeType) || key.IsValid() && flat(key.Kind())
}

// flat reports whether values of kind k contain no others.
func flat(k reflect.Kind) bool {
	return k < reflect.Array || k == reflect.String
}
