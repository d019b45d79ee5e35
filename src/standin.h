/* Stand-ins for functions of the interpreter: built-in functions that ask
 * another function first.
 *
 * What stands in for os.stat() has to be a built-in function as well: it
 * becomes no method as an attribute of a class, leaves no frame in tracebacks
 * and calls the genuine function, with its warnings, where that would be
 * called.  Name, documentation and signature are the genuine function's.
 *
 * Needs Python.h; for the extension only.  The GIL is held.
 */
#ifndef MI_STANDIN_H
#define MI_STANDIN_H

#define MI_STANDINS 50 /* so many can be made, once per process */

#if PY_VERSION_HEX >= 0x030D0000
#define MI_IS_FINALIZING Py_IsFinalizing
#else
#define MI_IS_FINALIZING _Py_IsFinalizing
#endif

struct mi_standin {
    PyMethodDef definition;
    PyObject *genuine;
    PyObject *first;
};

static struct mi_standin mi_standins[MI_STANDINS];

/* Call the genuine function as the tuple 'call' says: (args, kwargs).  An
 * OSError comes from the opener, which nobody is to see.
 */
static PyObject *mi_standin_instead(PyObject *genuine, PyObject *call)
{
    PyObject *type, *value, *traceback;
    PyObject *result = PyObject_Call(genuine, PyTuple_GET_ITEM(call, 0),
                                     PyTuple_GET_ITEM(call, 1));

    if (result || !PyErr_ExceptionMatches(PyExc_OSError))
        return result;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(traceback);
    if (value)
        PyException_SetTraceback(value, Py_None);
    PyErr_Restore(type, value, NULL);
    return NULL;
}

/* What first() returns decides: NotImplemented, the genuine function is
 * called; an exception, which is raised as if by the genuine function; a tuple
 * (args, kwargs), with which the genuine function is called; all else is the
 * result.
 */
static PyObject *mi_standin_call(const struct mi_standin *standin,
                                 PyObject *const *args, Py_ssize_t count,
                                 PyObject *names)
{
    PyObject *type, *value, *traceback;
    PyObject *genuine = standin->genuine;
    PyObject *result;

    if (MI_IS_FINALIZING()) /* first() may be in pieces */
        return PyObject_Vectorcall(genuine, args, (size_t)count, names);
    result = PyObject_Vectorcall(standin->first, args, (size_t)count, names);
    if (!result) {
        PyErr_Fetch(&type, &value, &traceback);
        Py_XDECREF(traceback);
        PyErr_Restore(type, value, NULL);
        return NULL;
    }
    if (result == Py_NotImplemented) {
        Py_DECREF(result);
        return PyObject_Vectorcall(genuine, args, (size_t)count, names);
    }
    if (PyTuple_CheckExact(result)) {
        value = result;
        result = mi_standin_instead(genuine, value);
        Py_DECREF(value);
    } else if (PyExceptionInstance_Check(result)) {
        PyErr_SetObject((PyObject *)Py_TYPE(result), result);
        Py_DECREF(result);
        result = NULL;
    }
    return result;
}

#define MI_STANDIN(n)                                                         \
    static PyObject *mi_standin_##n(PyObject *self, PyObject *const *args,    \
                                    Py_ssize_t count, PyObject *names)        \
    {                                                                         \
        (void)self;                                                           \
        return mi_standin_call(&mi_standins[n], args, count, names);          \
    }
#define MI_STANDIN_TEN(n)                                                     \
    MI_STANDIN(n##0)                                                          \
    MI_STANDIN(n##1)                                                          \
    MI_STANDIN(n##2)                                                          \
    MI_STANDIN(n##3)                                                          \
    MI_STANDIN(n##4)                                                          \
    MI_STANDIN(n##5)                                                          \
    MI_STANDIN(n##6)                                                          \
    MI_STANDIN(n##7)                                                          \
    MI_STANDIN(n##8)                                                          \
    MI_STANDIN(n##9)

MI_STANDIN_TEN()
MI_STANDIN_TEN(1)
MI_STANDIN_TEN(2)
MI_STANDIN_TEN(3)
MI_STANDIN_TEN(4)

#define MI_STANDIN_NAMES(n)                                                   \
    mi_standin_##n##0, mi_standin_##n##1, mi_standin_##n##2,                  \
        mi_standin_##n##3, mi_standin_##n##4, mi_standin_##n##5,              \
        mi_standin_##n##6, mi_standin_##n##7, mi_standin_##n##8,              \
        mi_standin_##n##9

typedef PyObject *(*mi_standin_function)(PyObject *, PyObject *const *,
                                         Py_ssize_t, PyObject *);

static const mi_standin_function mi_standin_functions[MI_STANDINS] = {
    MI_STANDIN_NAMES(), MI_STANDIN_NAMES(1), MI_STANDIN_NAMES(2),
    MI_STANDIN_NAMES(3), MI_STANDIN_NAMES(4)};

/* Make the next stand-in for the built-in function 'genuine', found in the
 * module of that name.  A new reference; it lives as long as the process.
 */
static PyObject *mi_standin_make(PyObject *genuine, PyObject *first,
                                 PyObject *module)
{
    static int made;
    struct mi_standin *standin;

    if (!PyCFunction_CheckExact(genuine) || made == MI_STANDINS)
        return PyErr_Format(PyExc_TypeError, "no stand-in for %R", genuine);
    standin = &mi_standins[made];
    standin->definition = *((PyCFunctionObject *)genuine)->m_ml;
    standin->definition.ml_meth =
        (PyCFunction)(void (*)(void))mi_standin_functions[made++];
    standin->definition.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    standin->genuine = Py_NewRef(genuine);
    standin->first = Py_NewRef(first);
    return PyCFunction_NewEx(&standin->definition,
                             PyCFunction_GET_SELF(genuine), module);
}

#endif
