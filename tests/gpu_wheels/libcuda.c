/* Enough of the driver's library for vLLM to be imported: every call answers "no device". */
int cuInit(void) { return 100; }
int cuDeviceGet(void) { return 100; }
int cuGetProcAddress_v2(void) { return 100; }
int cuPointerGetAttribute(void) { return 100; }
int cuTensorMapEncodeTiled(void) { return 100; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
