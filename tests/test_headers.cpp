// A program for its precompiled headers, which all tests use.
int main() {}
