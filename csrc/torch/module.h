// The Python face of a shared library whose only job is to run its static initialisers: they register operators with torch.
#pragma once

#include <Python.h>

// Defines PyInit_<name>, which makes an empty module. `check` runs first; it returns false with a Python error set if the
// library cannot work here.
#define ANS_PYTHON_MODULE_CHECKED(name, check)                                                  \
  extern "C" PyMODINIT_FUNC PyInit_##name(void);                                                \
  extern "C" PyMODINIT_FUNC PyInit_##name(void) {                                               \
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT, #name, nullptr, -1, nullptr,        \
                                     nullptr,               nullptr, nullptr, nullptr};         \
    return (check)() ? PyModule_Create(&definition) : nullptr;                                  \
  }

#define ANS_PYTHON_MODULE(name) ANS_PYTHON_MODULE_CHECKED(name, [] { return true; })
