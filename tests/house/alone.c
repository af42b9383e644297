/* Links one folder's library over those below it: see meson.build. */
int main(void)
{
    return 0;
}
